"""Checks who signed the checkpoint (RFC 8032, C2SP signed note): python3 signature.py [VKEY that you know from elsewhere]"""
import base64, hashlib, sys
p, q = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
d = -121665 * pow(121666, -1, p) % p
def point(b):
    y = int.from_bytes(b, "little")
    sign, y = y >> 255, y % 2**255
    square = (y * y - 1) * pow(d * y * y + 1, -1, p) % p
    x = pow(square, (p + 3) // 8, p)
    x = x if x * x % p == square else x * pow(2, (p - 1) // 4, p) % p
    return (x if x % 2 == sign else p - x, y) if x * x % p == square and y < p else sys.exit("refused: no key")
def add(a, b):
    t = d * a[0] * b[0] * a[1] * b[1]
    return ((a[0] * b[1] + b[0] * a[1]) * pow(1 + t, -1, p) % p, (a[1] * b[1] + a[0] * b[0]) * pow(1 - t, -1, p) % p)
def times(n, a):
    return (0, 1) if n == 0 else add(times(n - 1, a), a) if n % 2 else times(n // 2, add(a, a))
text, lines = open("checkpoint", encoding="utf-8", newline="").read().rsplit("\n\n", 1)
text = (text + "\n").encode()
for vkey in sys.argv[1:] or open("vkeys", encoding="utf-8").read().split():
    name, number, key = vkey.split("+", 2)
    key, here = base64.b64decode(key), [l.split(" ")[2] for l in lines.splitlines() if l.split(" ")[1] == name]
    known = hashlib.sha256(name.encode() + b"\n" + key).digest()[:4]
    for raw in [base64.b64decode(line) for line in here]:
        if key[0] != 1 or raw[:4] != known or known.hex() != number or not text.decode().startswith(name + "\n"):
            continue
        r, s = raw[4:36], int.from_bytes(raw[36:], "little")
        h = int.from_bytes(hashlib.sha512(r + key[1:] + text).digest(), "little") % q
        if s < q and times(s, point(bytes([88]) + bytes([102]) * 31)) == add(point(r), times(h, point(key[1:]))):
            sys.exit(print(f"signed by {vkey}" + ("" if sys.argv[1:] else ", which only this bundle says is the log's key")))
sys.exit("refused: not signed by the log's key")
