"""A folder as a bucket: an executor for the tests, which can be told to misbehave.

    python3 executor_folder.py FOLDER JOURNAL [LACK]

An item is a file, its version the digest of its content and the time of its last change. Each request is a line of JOURNAL.
FAULT in the environment names a file with a list of {"verb", "how", "item"?}: each goes wrong once in that way.
"""
import base64
import hashlib
import json
import os
import sys
import time

FOLDER, JOURNAL, LACKS = sys.argv[1], sys.argv[2], sys.argv[3:]
READ_ONLY = os.environ.get("LEDGER_READ_ONLY") == "1"
SECRET = "hunter2 of ann@example.com"


class Refused(Exception):
    def __init__(self, kind, **more):
        super().__init__(kind)
        self.error = {"class": kind, "effect": "none", "reason": "the folder says no", **more}


def path(item):
    return os.path.join(FOLDER, item)


def version(item):
    try:
        with open(path(item), "rb") as file:
            digest = hashlib.sha256(file.read()).hexdigest()[:16]
        return f"{digest}-{os.stat(path(item)).st_mtime_ns}"
    except FileNotFoundError:
        return None


def content(item):
    with open(path(item), "rb") as file:
        return base64.b64encode(file.read()).decode()


def hello(q):
    kinds = {"kind": "folder-file", "owner_kind": "folder", "user_kind": "folder-user"}
    signals = {"old": "the name begins with old", "big": "longer than big_bytes"}
    bounds = {"meaning": "length of what is big", "default": 1000, "min": 1, "max": 1_000_000}
    yield {"hello": {"protocol": 1, **kinds, "signals": signals, "conditions": {"sure": "always so"},
                     "parameters": {"big_bytes": bounds}, "lacks": LACKS, "header": {"folder": os.path.basename(FOLDER)}}}


def inventory(q):
    names = sorted(os.listdir(FOLDER))
    yield {"user": {"id": "u1", "email": "ann@example.com", "place": "main", "recorded": len(names)}}
    gone = {"code": "denied", "class": "auth", "status": 403, "attempts": 1, "reason": "no right for ann@example.com"}
    yield {"user": {"id": "u2", "unreachable": gone}}
    yield {"place": {"id": "main", "items": len(names), "whole": True}}
    for name in names:
        big = os.stat(path(name)).st_size
        signals = {"old": name.startswith("old"), "big": {"holds": big > q["parameters"]["big_bytes"], "detail": str(big)}}
        yield {"item": {"place": "main", "id": name, "users": ["u1"], "version": version(name),
                        "base64": content(name) if name.endswith("1") else None,
                        "signals": signals, "conditions": {"sure": True}}}
    yield {"end": True, "count": len(names), "others": 2}


def read(q):
    now = version(q["item"])
    yield {"found": "there", "version": now} if now else {"found": "absent"}


def backup(q):
    yield {"base64": content(q["item"]) if version(q["item"]) == q["version"] else None}


def delete(q):
    assert not READ_ONLY
    now = version(q["item"])
    if now is None:
        raise Refused("not_found")
    if now != q["version"]:
        raise Refused("conflict", status=412)
    os.remove(path(q["item"]))
    yield {"deleted": True, "status": 204}


def restore(q):
    assert not READ_ONLY
    try:
        with open(path(q["item"]), "xb") as file:
            file.write(base64.b64decode(q["base64"]))
    except FileExistsError:
        raise Refused("conflict", status=412) from None
    yield {"restored": {"version": version(q["item"])}}


def observe(q):
    names = sorted(os.listdir(FOLDER))
    for name in names:
        yield {"seen": {"id": name, "version": version(name)}}
    yield {"end": True, "count": len(names), "whole": True}


def fault(q):
    """What is to go wrong now; it is used up."""
    try:
        with open(os.environ["FAULT"]) as file:
            faults = json.load(file)
    except (KeyError, FileNotFoundError):
        return None
    for told in faults:
        if told["verb"] == q["verb"] and told.get("item", q.get("item")) == q.get("item"):
            faults.remove(told)
            with open(os.environ["FAULT"], "w") as file:
                json.dump(faults, file)
            return told["how"]
    return None


def say(text, end="\n"):
    sys.stdout.write(text + end)
    sys.stdout.flush()


def answer(q, verb, how):
    say_at_end = []
    if how and how.endswith("_after"):
        say_at_end = list(verb(q))
        how = how.removesuffix("_after")
    if how == "end":
        sys.exit(3)
    elif how == "garbage":
        say(f"Traceback (most recent call last): {SECRET}")
    elif how == "hang":
        time.sleep(600)
    elif how == "order":
        say(json.dumps({"id": q["id"] - 1, **(say_at_end or list(verb(q)))[0]}))
    elif how == "long":
        say("x" * (9 * 1024 * 1024), end="")
        time.sleep(600)
    elif how == "half":
        say('{"id":', end="")
        sys.exit(0)
    elif how == "shape":
        say(json.dumps({"id": q["id"], "answer": SECRET}))
    elif how == "close":
        os.close(1)
        time.sleep(600)
    elif how == "circle":
        while True:
            for one in verb(q):
                if "end" not in one:
                    say(json.dumps({"id": q["id"], **one}))
    elif how == "bytes":
        sys.stdout.buffer.write(b'{"id":"\xff\xfe"}\n')
        sys.stdout.flush()
    elif how == "twice":
        for _ in range(2):
            say(json.dumps({"id": q["id"], **next(verb(q))}))
    elif how == "count":
        for one in verb(q):
            say(json.dumps({"id": q["id"], **one, **({"count": 99} if "end" in one else {})}))
    elif how and how.startswith("{"):
        say(json.dumps({"id": q["id"], **json.loads(how)}))
    else:
        if how == "chatter":
            sys.stderr.write((SECRET + " ") * 20_000 + "\n")
            sys.stderr.flush()
        for one in verb(q):
            say(json.dumps({"id": q["id"], **one}))


VERBS = {verb.__name__: verb for verb in (hello, inventory, read, backup, delete, restore, observe)}
for line in sys.stdin:
    asked = json.loads(line)
    with open(JOURNAL, "a") as journal:
        journal.write(json.dumps({"verb": asked["verb"], "item": asked.get("item"), "read_only": READ_ONLY, "pid": os.getpid(),
                                  "keys": sorted(name for name in os.environ if "KEK" in name or "DATABASE" in name)}) + "\n")
    try:
        answer(asked, VERBS[asked["verb"]], fault(asked))
    except Refused as refused:
        say(json.dumps({"id": asked["id"], "error": refused.error}))
