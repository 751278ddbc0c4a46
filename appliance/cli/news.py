"""`python -m appliance.cli.news WHAT [NAME=VALUE...]`: what the image's scripts tell the service.

The box's own: WHAT and the names are those of the verb `news`.  One that nobody hears is lost; the
journal has what the script itself said.
"""

import sys
from pathlib import Path
from typing import Final

from appliance.cli.main import DEFAULT_SOCKET
from appliance.errors import EbbtideError
from appliance.operators.control.client import ControlClient, Refused

SECONDS: Final = 60.0


def main(words: list[str], socket: Path = Path(DEFAULT_SOCKET)) -> int:
    """0 once the service has it."""
    what, *more = words
    arguments = dict(word.split("=", 1) for word in more)
    try:
        with ControlClient(socket, "firmware", SECONDS) as client:
            client.request("news", {"what": what, **arguments})
    except (EbbtideError, Refused) as error:
        print(f"the service does not hear of it: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
