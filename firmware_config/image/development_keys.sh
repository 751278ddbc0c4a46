#!/bin/sh
# usage: development_keys.sh DIRECTORY
# An authority and a signer of updates for whoever has none: for trying, not for boxes in the
# field, since whoever builds has the key.  Kept between builds: an image takes updates of
# the authority that it was built with only.
set -eu
directory=$1
if [ -e "$directory/signer.key" ]; then
    exit 0
fi
echo "image: no KEYS given: making a development authority in $directory"
mkdir -p "$directory"
chmod 0700 "$directory"
cd "$directory"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 10950 \
    -subj "/O=Ebbtide development/CN=Ebbtide development authority" \
    -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign,cRLSign" \
    -keyout authority.key -out authority.pem 2>/dev/null
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc \
    -subj "/O=Ebbtide development/CN=Ebbtide development signer" \
    -keyout signer.key -out signer.csr 2>/dev/null
printf '%s\n' 'basicConstraints=critical,CA:FALSE' 'keyUsage=critical,digitalSignature' >signer.ext
openssl x509 -req -in signer.csr -CA authority.pem -CAkey authority.key -CAcreateserial \
    -days 10950 -extfile signer.ext -out signer.pem 2>/dev/null
rm -f signer.csr signer.ext authority.srl
