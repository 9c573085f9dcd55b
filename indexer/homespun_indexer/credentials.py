"""What credentials look like: one rule for each kind. A rule is looked for only in texts that hold one of its hints.

Formats: the rules of gitleaks and the providers' documentation. No pattern takes more than linear time, or else within
a bounded stretch: a run of characters is read from its own beginning only (look-behinds), and never given back
(possessive quantifiers).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from homespun_core.placeholders import PREFIX


@dataclass(frozen=True, slots=True)
class Rule:
    """What the group `secret` of the pattern matches is one, if `accepts` agrees."""

    name: str
    pattern: re.Pattern[str]
    hints: tuple[str, ...]
    """Lower case. Where none of them stands in the text, whatever its case, the pattern isn't tried."""
    accepts: Callable[[str], bool]


def entropy(text: str) -> float:
    """Bits a character, from the text's own character counts."""
    return -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values()) if text else 0.0


def rule(
    name: str,
    hints: str,
    pattern: str,
    accepts: Callable[[str], bool] = lambda _: True,
    flags: int = 0,
) -> Rule:
    """`hints` are separated by blanks."""
    return Rule(name, re.compile(pattern, flags), tuple(hints.split()), accepts)


_NAME_OF_SECRET = r"(?:pass(?:word|wd|phrase)|pwd|secret|token|(?:api|access|private|client)[_-]?key|credential)"
_NAME_OF_PASSWORD = r"(?:pass(?:word|wd|phrase)|pwd|secret)"
_WORDS_OF_SECRETS = "pass pwd secret token key credential"
_SECRET = re.compile(_NAME_OF_SECRET, re.IGNORECASE)

_FILLED_IN = re.compile(r"\$?\{\{?[^{}]*+\}?\}|\$\([^()]*+\)|%\(\w++\)[sd]|%[sdvrq](?!\w)|<[^<>]*+>")
_VARIABLES = re.compile(r"(?:\$(?:[A-Z_][A-Z0-9_]*+|[a-z_][a-z0-9_]*+)|%\w++%|\W)++")
_PATH = re.compile(r"[.~]{0,2}/|[A-Za-z]:[\\/]|\w+://")
_DOTTED = re.compile(r"[$@A-Za-z_][\w.$-]*")
_NUMBERED = re.compile(r"(?i)(?:sha|md|aes|rsa|base|utf|oauth|ed|x|rfc|pkcs)[_-]?\d+")
_LONG_KEY = 8_000
_ARMOUR = re.compile(r"[A-Za-z0-9+/=]{40,}+")
"""A PGP key of several names is longer than any other, and full of these."""
_HOLDS_NUMBER = re.compile(r"\d{3}|[A-Za-z]\d|\d[A-Za-z]")


def _looks_random(value: str) -> bool:
    """Not a name, path or sentence: digits among letters, and varied."""
    if value.startswith(PREFIX) or not (re.search(r"\d", value) and re.search(r"[A-Za-z]", value)):
        return False
    return entropy(value) >= 3.0


def _is_key_text(value: str) -> bool:
    """Whatever stands there, but not all the code between two literals that are such lines."""
    return 20 <= len(value) <= _LONG_KEY or sum(map(len, _ARMOUR.findall(value))) > len(value) // 2


def _is_written_out(value: str) -> bool:
    """Random as it stands, not by the names of what is filled in or looked up."""
    plain = _FILLED_IN.sub("", value)
    if plain != value and (len(plain) < 8 or "/" in plain):
        return False
    return _looks_random(plain) and not _VARIABLES.fullmatch(value) and not _is_name_of_variable(value)


def _is_name_of_variable(value: str) -> bool:
    """`DB_PASSWORD_2`, as it is looked up."""
    return value.isupper() and value.isidentifier() and "_" in value and bool(_SECRET.search(value))


def _is_unquoted(value: str) -> bool:
    """Where variables and paths may stand as well: a name with a digit or two is one."""
    if _PATH.match(value) or (_DOTTED.fullmatch(value) and len(re.findall(r"\d", _NUMBERED.sub("", value))) < 3):
        return False
    return _is_written_out(value)


def _is_passphrase(value: str) -> bool:
    """No sentence: few words, and one that holds more than a count."""
    words = value.split()
    return 2 <= len(words) <= 4 and any(map(_HOLDS_NUMBER.search, words)) and _is_written_out(value)


def _token(name: str, hints: str, pattern: str, accepts: Callable[[str], bool] = lambda _: True) -> Rule:
    """A credential that its own prefix gives away, as a word of its own."""
    return rule(name, hints, rf"(?<![A-Za-z0-9_-])(?P<secret>{pattern})(?![A-Za-z0-9])", accepts)


_VARIABLE = r"(?>[A-Z0-9_]*?(?:PASS(?:WORD|WD)?|SECRET|TOKEN|KEY))[A-Z0-9_]*+"
_PARAMETER = r"[\w.-]++(?:{})".format(
    "|".join(
        f"(?<={end})"
        for end in (
            *("password", "passwd", "passphrase", "(?<![a-z])pass", "pwd", "secret", "token", "credential"),
            *(f"{whose}{link}key" for whose in ("api", "access", "private", "client") for link in ("", "[_-]")),
        )
    )
)
"""Of any case, and at its end the word: `secretName: shop-tls-2023` holds no secret."""
_UNQUOTED = r"(?P<secret>[^\s\"'`(){}<>\[\];,&|\\=][^\s\"'`(){}<>\[\];,&|\\]{7,199}+)(?=[\"'`]?(?:[\s&;]|\Z))"
_TYPE = r"(?:[?!]?\s*+:\s*+[&\w][\w.&'<>\[\]|?* ]{0,60}+|[ \t]++(?:\*?string|\[\]byte)|\[\w{0,20}+\])\s*+="
"""`: str =` and `: string | null =`, Go's ` string =`, C's `[32] =`."""
_OPENING = r"(?:(?:new\s)?(?:\[\])?[a-z][\w:]{0,40}+\()?(?:[rbfu]{1,2}(?=[\"'`]))?(?P<quote>\"{3}|'{3}|[\"'`])"
"""Of a literal: `"`, `b"`, a triple quote, `String::from("`, `new String("`."""


def _assigned(name: str, separators: str, literal: str) -> str:
    """A literal that is assigned to, compared with or given to what is called `name`."""
    return (
        rf"(?<![\w-])(?>[\w-]*?{name})[\w-]*+(?:[\"'\]]{{0,2}}\s*+(?:{separators})|{_TYPE})\s*+"
        rf"{_OPENING}(?P<secret>{literal})(?P=quote)"
    )


CREDENTIALS = (
    rule(
        "PRIVATE_KEY",
        "-----begin",
        r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
        r"(?P<secret>(?:[^-]++"
        r"|-(?!----(?:BEGIN [A-Z ]{0,40}PRIVATE KEY|END [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----)))*+)"
        r"-----END [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----",
        _is_key_text,
    ),
    _token("AGE_KEY", "age-secret-key-", r"AGE-SECRET-KEY-1[A-Z0-9]{58}"),
    # Clouds
    _token("AWS_KEY", "akia asia abia acca", r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}"),
    rule(
        "AWS_SECRET",
        "aws",
        r"(?i:aws[\w.-]{0,30}?secret[\w.-]{0,30})[\"'\]]{0,2}\s{0,4}(?:=>|:=|[:=,])\s{0,4}[\"'`]?"
        r"(?P<secret>[A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])",
        _looks_random,
    ),
    rule(
        "AZURE_KEY", "accountkey sharedaccesskey", r"(?:Account|SharedAccess)Key=(?P<secret>[A-Za-z0-9+/]{43,88}={1,2})"
    ),
    _token("AZURE_SECRET", "8q~ 7q~", r"[A-Za-z0-9_~.]{3}[78]Q~[A-Za-z0-9_~.-]{31,34}"),
    rule("AZURE_SIGNATURE", "sig=", r"[?&;]sig=(?P<secret>[A-Za-z0-9%/+]{40,100}(?:=|%3[dD])?)"),
    _token("GOOGLE_KEY", "aiza", r"AIza[A-Za-z0-9_-]{35}"),
    _token("GOOGLE_OAUTH", "gocspx- ya29.", r"GOCSPX-[A-Za-z0-9_-]{28}|ya29\.[A-Za-z0-9_-]{30,400}"),
    _token("DIGITALOCEAN_TOKEN", "_v1_", r"do[opr]_v1_[a-f0-9]{64}"),
    _token("DATABRICKS_TOKEN", "dapi", r"dapi[a-f0-9]{32}(?:-\d)?"),
    _token("HEROKU_KEY", "hrku-", r"HRKU-[A-Za-z0-9_-]{36,64}"),
    _token("VAULT_TOKEN", "hvs. hvb.", r"hv[sb]\.[A-Za-z0-9_-]{24,300}"),
    _token("TERRAFORM_TOKEN", ".atlasv1.", r"[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_=-]{60,70}"),
    _token("PULUMI_TOKEN", "pul-", r"pul-[a-f0-9]{40}"),
    _token("DOPPLER_TOKEN", "dp.", r"dp\.(?:pt|st|ct|sa)\.[A-Za-z0-9._-]{40,60}"),
    # Forges, builds, packages
    _token("GITHUB_TOKEN", "gh github_pat_", r"gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{50,255}"),
    _token("GITLAB_TOKEN", "gl", r"gl(?:pat|ptt|dt|rt|cbt|ft|imt|soat|agent|oas)-[A-Za-z0-9_.-]{20,70}"),
    _token("ATLASSIAN_TOKEN", "atatt3 atbb", r"ATATT3[A-Za-z0-9_=-]{60,250}|ATBB[A-Za-z0-9]{32}"),
    _token("CI_TOKEN", "ccipat_ bkua_ sqp_ sqa_", r"CCIPAT_[A-Za-z0-9_]{40,70}|bkua_[a-f0-9]{40}|sq[pa]_[a-f0-9]{40}"),
    _token("NPM_TOKEN", "npm_", r"npm_[A-Za-z0-9]{36}"),
    _token("PYPI_TOKEN", "pypi-", r"pypi-[A-Za-z0-9_-]{50,1000}"),
    _token("RUBYGEMS_KEY", "rubygems_", r"rubygems_[a-f0-9]{48}"),
    _token("NUGET_KEY", "oy2", r"oy2[a-z0-9]{43}"),
    _token("CRATES_TOKEN", "cio", r"cio[A-Za-z0-9]{32}", _looks_random),
    _token("DOCKER_TOKEN", "dckr_pat_", r"dckr_pat_[A-Za-z0-9_-]{27,40}"),
    # Chat and mail
    _token("SLACK_TOKEN", "xox xapp-", r"(?:xox[abeoprs]|xapp)-[A-Za-z0-9-]{10,250}"),
    rule(
        "SLACK_WEBHOOK",
        "hooks.slack.com",
        r"hooks\.slack\.com/(?:services|workflows)/(?P<secret>[A-Za-z0-9+/]{20,200})",
    ),
    rule(
        "DISCORD_WEBHOOK", "/webhooks/", r"discord(?:app)?\.com/api/webhooks/(?P<secret>\d{17,20}/[A-Za-z0-9_-]{60,80})"
    ),
    _token(
        "DISCORD_TOKEN", "m n o", r"[MNO][A-Za-z0-9_-]{23,25}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,38}", _looks_random
    ),
    _token("TELEGRAM_TOKEN", ":aa", r"\d{8,10}:AA[A-Za-z0-9_-]{33}"),
    rule("TEAMS_WEBHOOK", "webhook.office.com", r"webhook\.office\.com/webhookb2/(?P<secret>[A-Za-z0-9@/-]{40,250})"),
    _token("TWILIO_KEY", "sk ac", r"(?:SK|AC)[0-9a-f]{32}"),
    _token("SENDGRID_KEY", "sg.", r"SG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{16,64}"),
    _token("MAILGUN_KEY", "key-", r"key-[0-9a-f]{32}"),
    _token("MAILCHIMP_KEY", "-us", r"[0-9a-f]{32}-us\d{1,2}"),
    # Payment
    _token("STRIPE_KEY", "sk_ rk_ whsec_", r"[rs]k_(?:live|test)_[A-Za-z0-9]{16,128}|whsec_[A-Za-z0-9]{32,64}"),
    _token("SQUARE_TOKEN", "sq0", r"sq0(?:atp|csp|idp)-[A-Za-z0-9_-]{22,43}"),
    _token("SHOPIFY_TOKEN", "shp", r"shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}"),
    _token("PAYPAL_TOKEN", "access_token$", r"access_token\$(?:production|sandbox)\$[a-z0-9]{16}\$[a-f0-9]{32}"),
    # Services
    _token("ANTHROPIC_KEY", "sk-ant-", r"sk-ant-[a-z0-9]{1,10}-[A-Za-z0-9_-]{32,200}"),
    _token("OPENAI_KEY", "sk-", r"sk-(?:proj-|svcacct-)?[A-Za-z0-9_-]{32,200}", _looks_random),
    _token("HUGGINGFACE_TOKEN", "hf_", r"hf_[A-Za-z0-9]{30,40}"),
    _token("GRAFANA_TOKEN", "glsa_ glc_", r"glsa_[A-Za-z0-9]{32}_[A-Fa-f0-9]{8}|glc_[A-Za-z0-9+/]{32,400}={0,2}"),
    _token("SENTRY_TOKEN", "sntry", r"sntry[su]_[A-Za-z0-9+/=_]{40,250}"),
    _token("NEWRELIC_KEY", "nrak- nrii- nral-", r"NRAK-[A-Z0-9]{27}|NR(?:II|AL)-[A-Za-z0-9_-]{32}"),
    _token("LINEAR_KEY", "lin_api_", r"lin_api_[A-Za-z0-9]{32,48}"),
    _token("NOTION_TOKEN", "ntn_ secret_", r"(?:ntn|secret)_[A-Za-z0-9]{40,50}", _looks_random),
    _token("AIRTABLE_TOKEN", "pat", r"pat[A-Za-z0-9]{14}\.[a-f0-9]{64}"),
    _token("FIGMA_TOKEN", "figd_", r"figd_[A-Za-z0-9_-]{38,48}"),
    _token("POSTMAN_KEY", "pmak-", r"PMAK-[a-f0-9]{24}-[a-f0-9]{34}"),
    # What names or places give away
    _token("JWT", "eyj", r"eyJ[A-Za-z0-9_-]{10,}+\.eyJ[A-Za-z0-9_-]{10,}+\.[A-Za-z0-9_-]{10,}+"),
    rule(
        "URL_PASSWORD",
        "://",
        r"(?<=[a-z0-9+.-])://[^\s:/@\"'`]{0,64}:(?P<secret>[^\s/@\"'`<>{}$%]{4,128})@[\w.-]",
    ),
    rule(
        "CONNECTION_STRING",
        "password= pwd= password = pwd =",
        r"(?i)(?:;|[\"'])\s?(?:password|pwd)\s?=\s?(?P<secret>[^\s;\"'`<>{}$%]{4,128})(?=[;\"'])",
    ),
    rule(
        "BASIC_AUTH",
        "basic",
        r"\b(?i:basic)\s(?P<secret>[A-Za-z0-9+/]{12,400}={0,2})(?![A-Za-z0-9+/=])",
        lambda value: _looks_random(value) or value.endswith("="),
    ),
    rule("BEARER_TOKEN", "bearer", r"\b(?i:bearer)\s(?P<secret>[A-Za-z0-9._~+/-]{16,500}={0,2})", _looks_random),
    rule(
        "ASSIGNED",
        _WORDS_OF_SECRETS,
        _assigned(
            _NAME_OF_SECRET,
            r"[=!]==?|:=|=>|\|\|=?|\?\?=?|[:=,(]",
            r"(?:(?!(?P=quote))\S|(?<=\\)\S){10,200}",
        ),
        _is_written_out,
        re.IGNORECASE,
    ),
    rule(
        "ASSIGNED",
        "pass pwd secret",
        _assigned(_NAME_OF_PASSWORD, r"[=!]==?|:=|=>|[:=]", r"(?:(?!(?P=quote)).|(?<=\\).){10,80}"),
        _is_passphrase,
        re.IGNORECASE,
    ),
    rule(
        "SQL_PASSWORD",
        "password identified",
        r"(?i)\b(?:password|identified\s{1,4}(?:with\s{1,4}\S{1,40}\s{1,4})?(?:by|as)(?:\s{1,4}password)?)\s{1,4}"
        r"(?P<quote>[\"'])(?P<secret>[^\s\"'`]{8,128})(?P=quote)",
        _is_written_out,
    ),
    rule(
        "ENVIRONMENT",
        "pass secret token key",
        r"(?m)^[ \t]*+(?:(?:(?:export|ENV|-|set)[ \t]++)?"
        rf"{_VARIABLE}\s?[=:]\s?|ENV[ \t]{{1,40}}{_VARIABLE}[ \t]{{1,4}}){_UNQUOTED}[ \t\r]*+$",
        lambda value: "://" not in value and _is_written_out(value),
    ),
    rule(
        "ENVIRONMENT",
        "pass secret token key",
        rf"(?<![\w.$-]){_VARIABLE}={_UNQUOTED}",
        _is_unquoted,
    ),
    rule(
        "ENVIRONMENT",
        _WORDS_OF_SECRETS,
        rf"(?im)(?:(?<![\w.$-]){_PARAMETER}=|^[ \t]*+(?:-[ \t]++)?{_PARAMETER}[ \t]?[=:][ \t]{{0,4}}){_UNQUOTED}",
        _is_unquoted,
    ),
    rule("COMMAND_PASSWORD", "--", rf"(?i)(?<!\S)--{_PARAMETER}[ \t]{{1,4}}[\"']?{_UNQUOTED}", _is_unquoted),
    rule(
        "COMMAND_PASSWORD",
        "-u --user",
        rf"(?<!\S)(?:-u|--user)[ =]?[\"']?[^\s:\"'`]{{1,64}}+:{_UNQUOTED}",
        _is_written_out,
    ),
)
