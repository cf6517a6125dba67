"""Secrets in addresses: a user's password, a signature, a token. Addresses that have some are refused, as whatever is
given as an address is shown, logged and kept; and what libraries say is shown without them.
"""

import re
from unicodedata import normalize
from urllib.parse import unquote

WEB = ("http", "https")
"""The schemes of web servers."""
HIDDEN = "…"
USER = re.compile(
    r"""((?:(?<=:)|^)//)                        # after the scheme, or where there is none
        (?: [^\s/?\#'"<>]*                      # a name, or a name and a password
          | (?<!file://)/+[^\s/@:'"<>]+:[^\s/]*   # both, behind slashes too many
          | [^\s/?\#@:\[]+:(?!\d+(?:[/?\#]|$))\S*  # a password with a slash or the like: what is there is no port
        )@""",
    re.VERBOSE,
)
USER_WITHOUT_SLASHES = re.compile(r"((?<![\w/])[a-z][a-z0-9+.-]+:/?)(?!/)[^\s/@:]+:(?!//)\S+@", re.IGNORECASE)
USER_WITHOUT_SCHEME = re.compile(r"^[^\s/@:]+:[^\s/]+@")
"""Of whole addresses alone: in what people read it may be anything."""
VALUE = re.compile(r"""([?&;\#](?:amp;)?([^\s=&;?\#'"<>]+)=)(?!…)[^\s&;\#'"<>]+""")
"""A part of a query, or of a fragment, its name as the second group."""
SECRET = re.compile(
    r"^(?:xamz|xgoog|xoss|oauth|awsaccess|googleaccess|ossaccess|hdn|code$)"
    r"|(?:sig|signature|token|secret|password|passwd|passphrase|pass|pwd|pw|credentials?|key|keyid|pairid"
    r"|auth|authorization|bearer|jwt|sas|session|sessionid|policy|hmac)$"
)
"""What names are of values that open something: in lower case, of letters and digits alone."""


def cleaned(text: str) -> str:
    """`text` with … for the passwords and signatures of the addresses in it."""
    if "@" in text:
        text = USER_WITHOUT_SLASHES.sub(rf"\1{HIDDEN}@", USER.sub(rf"\1{HIDDEN}@", text))
    return VALUE.sub(_hidden, text) if "=" in text else text


def without_secrets(address: str) -> str:
    """An address as it may be shown and kept: itself, if there is no secret in it, however that is spelled."""
    if address.startswith(("/", "./", "../", "~")) and "://" not in address and not address.startswith("//"):
        return address  # a path
    wide = normalize("NFKC", address) if "://" in address else address  # hosts are read so, ＠ and : among them
    for told in (address, unquote(address), wide):
        told = re.sub(r"\s", "_", told)
        for shown in (cleaned(told), USER_WITHOUT_SCHEME.sub(f"{HIDDEN}@", told)):
            if shown != told:
                return re.sub(rf"{HIDDEN}@.*@", f"{HIDDEN}@", shown)  # a password may have any signs in it
    return address


def _hidden(found: re.Match[str]) -> str:
    name = re.sub(r"[^a-z0-9]", "", unquote(found[2]).lower())
    return f"{found[1]}{HIDDEN}" if SECRET.search(name) else found[0]
