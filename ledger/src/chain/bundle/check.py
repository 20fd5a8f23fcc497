"""Checks the files beside it, by hashes alone: python3 check.py. Who signed the checkpoint: python3 signature.py"""
import base64, bisect, hashlib, json, sys

def sha(*parts):
    return hashlib.sha256(b"".join(parts)).digest()

def tree(low, high):  # RFC 6962, leaves low to high; a part without any of our entries comes from the proof
    if bisect.bisect_left(order, low) == bisect.bisect_left(order, high):
        return next(proof)
    if high - low == 1:
        return sha(b"\0", entries[low])
    middle = low + (1 << (high - low - 1).bit_length() - 1)
    return sha(b"\1", tree(low, middle), tree(middle, high))

for line in open("SHA256SUMS"):
    if hashlib.sha256(open(line[66:-1], "rb").read()).hexdigest() != line[:64]:
        sys.exit(f"tampered: {line[66:-1]} is not the file that was exported")
origin, size, root = open("checkpoint", encoding="utf-8").read().split("\n")[:3]
entries = {json.loads(line)["seq"] - 1: line for line in open("entries.ndjson", "rb").read().splitlines()}
order, proof = sorted(entries), iter([bytes.fromhex(line) for line in open("proof").read().split()])
if tree(0, int(size)) != base64.b64decode(root) or next(proof, None):
    sys.exit("tampered: the entries do not lead to the checkpoint's root")
payloads = [json.loads(line) for line in open("payloads.ndjson")]
for payload in payloads:
    commitment = sha(b"ledger-payload-v1\0", base64.b64decode(payload["salted"])).hex()
    if commitment != json.loads(entries[payload["seq"] - 1])["commitment"]:
        sys.exit(f"tampered: seq {payload['seq']}: payload does not match its commitment")
print(f"{len(entries)} entries and {len(payloads)} payloads are in the tree of {size} entries of {origin}")
