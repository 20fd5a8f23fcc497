"""Empties an S3 bucket: `ledger cleanup command --exec 'python3 empty_bucket.py BUCKET' …` (docs/executor-protocol.md). Needs boto3.

An item is a key, its version the VersionId: deleting exactly that one is the precondition. Without versioning all is held."""
import base64, datetime, json, os, signal, sys
import boto3, botocore.config, botocore.exceptions as errors

BUCKET, LARGE = sys.argv[1], 3 * 1024 * 1024
s3 = boto3.client("s3", config=botocore.config.Config(retries={"total_max_attempts": 1}, read_timeout=30))
VERSIONED = s3.get_bucket_versioning(Bucket=BUCKET).get("Status") == "Enabled"

class Refused(Exception):
    def __init__(self, kind, reason): self.error = {"class": kind, "effect": "none", "reason": reason}

def keys():
    """Of each key the latest version, which may be a delete marker, its id, and how many versions there are."""
    found = {}
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=BUCKET):
        for one in page.get("Versions", []) + page.get("DeleteMarkers", []):
            latest, count = found.get(one["Key"], (None, 0))
            found[one["Key"]] = (one if one["IsLatest"] else latest, count + 1)
    return {key: (one, one["VersionId"] if VERSIONED else one.get("ETag"), count) for key, (one, count) in found.items()}

def hello(q):
    yield {"hello": {"protocol": 1, "kind": "s3-object", "owner_kind": "s3-bucket", "user_kind": "s3-owner", "signals": {
        "marker": "the key is deleted already and only a marker stands there", "history": "it has older versions, which would show",
        "large": "it is too large to be kept in the ledger", "recent": "it was written less than recent_hours ago"},
        "parameters": {"recent_hours": {"meaning": "age below which somebody may still use it", "default": 24, "min": 0, "max": 8760}},
        "lacks": [] if VERSIONED else ["precondition"], "header": {"bucket": BUCKET}}}

def inventory(q):
    all, now, recent = keys(), datetime.datetime.now(datetime.timezone.utc), datetime.timedelta(hours=q["parameters"]["recent_hours"])
    yield {"user": {"id": BUCKET, "place": BUCKET}}
    yield {"place": {"id": BUCKET, "items": len(all), "whole": True}}
    for key, (one, version, count) in all.items():
        yield {"item": {"place": BUCKET, "id": key, "users": [BUCKET], "version": version, "signals": {"marker": "Size" not in one,
            "history": count > 1, "large": one.get("Size", 0) > LARGE, "recent": now - one["LastModified"] < recent}}}
    yield {"end": True, "count": len(all)}

def read(q):
    try: head = s3.head_object(Bucket=BUCKET, Key=q["item"])
    except errors.ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404: raise
        yield {"found": "absent"}
    else: yield {"found": "there", "version": head["VersionId"] if VERSIONED else head["ETag"]}

def backup(q):
    got = s3.get_object(Bucket=BUCKET, Key=q["item"], **({"VersionId": q["version"]} if VERSIONED else {"IfMatch": q["version"]}))
    kept = {"ContentType": got["ContentType"], "Metadata": got["Metadata"], "Body": base64.b64encode(got["Body"].read()).decode()}
    yield {"base64": base64.b64encode(json.dumps(kept).encode()).decode()}

def delete(q):
    now = next(read(q))
    if now["found"] == "absent": raise Refused("not_found", "there is no such key")
    if not VERSIONED or now["version"] != q["version"]: raise Refused("conflict", "it has another version by now")
    s3.delete_object(Bucket=BUCKET, Key=q["item"], VersionId=q["version"])
    yield {"deleted": True}

def restore(q):
    kept = json.loads(base64.b64decode(q["base64"]))
    put = s3.put_object(Bucket=BUCKET, Key=q["item"], IfNoneMatch="*", **{**kept, "Body": base64.b64decode(kept["Body"])})
    yield {"restored": {"version": put.get("VersionId")}}

def observe(q):
    all = keys()
    yield from ({"seen": {"id": key, "version": version}} for key, (_, version, _) in all.items())
    yield {"end": True, "count": len(all), "whole": True}

VERBS = {verb.__name__: verb for verb in (hello, inventory, read, backup, delete, restore, observe)}
for q in map(json.loads, sys.stdin):  # no answer from S3 at all ends the program, and so says that nobody knows
    signal.setitimer(signal.ITIMER_REAL, q.get("limit_ms", 0) / 1000)  # and a change that is late is ended by the kernel
    try:
        if q["verb"] in ("delete", "restore") and "LEDGER_READ_ONLY" in os.environ: raise Refused("refused", "read only")
        for answer in VERBS[q["verb"]](q): print(json.dumps({"id": q["id"], **answer}), flush=True)
    except Refused as refused: print(json.dumps({"id": q["id"], "error": refused.error}), flush=True)
    except errors.ClientError as error:
        status, code = error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]
        kind = {401: "auth", 403: "auth", 404: "not_found", 409: "conflict", 412: "conflict", 429: "quota"}.get(status, "server")
        print(json.dumps({"id": q["id"], "error": {"class": kind, "status": status, "effect": "unknown" if status >= 500 else "none",
            "may_pass": kind in ("quota", "server"), "stops_user": kind == "auth", "reason": code}}), flush=True)
    signal.setitimer(signal.ITIMER_REAL, 0)
