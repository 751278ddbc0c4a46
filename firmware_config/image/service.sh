#!/bin/sh
# usage: service.sh ROOT WHEELS
# The service in ROOT/opt/ebbtide: a virtual environment of the image's own Python.
set -eu
root=$1
wheels=$2

mkdir "$root/run/wheels"
mount --bind "$wheels" "$root/run/wheels"
trap 'umount "$root/run/wheels"; rmdir "$root/run/wheels"' EXIT
inside() {
    chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 \
        SOURCE_DATE_EPOCH="$SOURCE_DATE_EPOCH" PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=/run/wheels "$@"
}
inside python3 -m venv --without-pip /opt/ebbtide
inside /opt/ebbtide/bin/python -m pip install -q --no-index --no-compile --no-warn-script-location \
    --root-user-action=ignore --find-links /run/wheels ebbtide
inside /opt/ebbtide/bin/python -c 'import crcmod._crcfunext, numpy, google_crc32c' || {
    echo 'image: the service lacks a compiled part' >&2
    exit 1
}
packages=$root/opt/ebbtide/lib/python3.11/site-packages
find "$packages" -type d -name tests -prune -exec rm -r {} +
find "$packages" -name '*.pyi' -delete
rm -f "$root/opt/ebbtide/bin/activate"* "$root/opt/ebbtide/bin/Activate.ps1"

# Programs on everybody's path; units name those in /opt/ebbtide.
for program in cdpctl cdpd cdp-console cdp-panel cdp-exporter; do
    ln -s "/opt/ebbtide/bin/$program" "$root/usr/bin/$program"
done

# The root is read-only: what Python would write beside its modules is made now, and found valid
# by content and not by date.
find "$root/usr/lib/python3" "$root/usr/lib/python3.11" -name '__pycache__' -prune -exec rm -r {} +
inside python3 -m compileall -q --invalidation-mode unchecked-hash \
    /usr/lib/python3.11 /usr/lib/python3 /opt/ebbtide/lib || true
