"""HBK/1 from docs/protocol.md alone: recomputes the connections in test/vectors/hbk1.json from their private keys.

Whatever is not the same byte for byte ends it with an error. Prints how much it has recomputed, as a line of JSON.
"""
import hashlib
import hmac
import json
import re
import struct
import sys

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mlkem
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_UPDATE = 2
REKEY = 0xFFFF_FFFF_FFFF_FFFF


def u16(number):
    return struct.pack(">H", number)


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def hmac256(key, data):
    return hmac.new(key, data, hashlib.sha256).digest()


def same(what, mine, theirs):
    if mine != theirs:
        raise SystemExit(f"{what}: {mine} was computed, {theirs} is in the vectors")


# Section 5: Noise


def hkdf(ck, ikm):
    t = hmac256(ck, ikm)
    o1 = hmac256(t, b"\x01")
    o2 = hmac256(t, o1 + b"\x02")
    return o1, o2, hmac256(t, o2 + b"\x03")


def seal(key, counter, ad, plaintext):
    return AESGCM(key).encrypt(bytes(4) + struct.pack(">Q", counter), plaintext, ad)


class Symmetric:
    def __init__(self, name):
        name = name.encode()
        self.h = name.ljust(32, b"\0") if len(name) <= 32 else sha256(name)
        self.ck = self.h
        self.k = None
        self.n = 0

    def mix_hash(self, data):
        self.h = sha256(self.h, data)

    def mix_key(self, data):
        self.ck, self.k, _ = hkdf(self.ck, data)
        self.n = 0

    def mix_key_and_hash(self, data):
        self.ck, t, self.k = hkdf(self.ck, data)
        self.mix_hash(t)
        self.n = 0

    def encrypt_and_hash(self, plaintext):
        if self.k is None:
            field = plaintext
        else:
            field = seal(self.k, self.n, self.h, plaintext)
            self.n += 1
        self.mix_hash(field)
        return field

    def decrypt_and_hash(self, field):
        nonce = bytes(4) + struct.pack(">Q", self.n)
        plaintext = AESGCM(self.k).decrypt(nonce, field, self.h)
        self.n += 1
        self.mix_hash(field)
        return plaintext


MESSAGES = {
    0: ["e", "e ee s es", "s se"],
    1: ["e e1", "e ee ekem1 s es", "s se"],
    2: ["psk e", "e ee"],
}


def public_of(private):
    return private.public_key().public_bytes_raw()


def dh(private, public):
    return private.exchange(X25519PublicKey.from_public_bytes(public))


class Side:
    def __init__(self, vector, role, identities):
        side = vector[role]
        self.role = role
        self.ephemeral = X25519PrivateKey.from_private_bytes(bytes.fromhex(side["ephemeralPrivate"]))
        self.static = side["staticPrivate"] and X25519PrivateKey.from_private_bytes(
            bytes.fromhex(side["staticPrivate"])
        )
        self.kem = side.get("kem")
        self.max_record = side["maxRecord"]
        self.instance = side["instance"]
        self.identity = identities[side["identity"]]


# Section 2, 3 and 6: what is around and inside the messages


def client_hello(mode, offered, ticket):
    return b"HBK1" + bytes([1, mode]) + u16(offered) + bytes(4) + ticket


def frame(kind, body):
    return bytes([kind]) + u16(len(body)) + body


class Identity:
    def __init__(self, entry, bundle):
        self.spiffe_id = entry["spiffeId"]
        self.algorithm = entry["algorithm"]
        self.chain = [bytes.fromhex(der) for der in entry["chain"]]
        leaf = x509.load_der_x509_certificate(self.chain[0])
        leaf.verify_directly_issued_by(x509.load_der_x509_certificate(bundle))
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        same("URI SAN", names.get_values_for_type(x509.UniformResourceIdentifier), [self.spiffe_id])
        self.public = leaf.public_key()
        private = bytes.fromhex(entry["privateKey"])
        if self.algorithm == 0x0807:
            self.private = ed25519.Ed25519PrivateKey.from_private_bytes(private)
        else:
            self.private = ec.derive_private_key(int.from_bytes(private, "big"), ec.SECP256R1())

    def sign(self, data):
        if self.algorithm == 0x0807:
            signature = self.private.sign(data)
            self.public.verify(signature, data)
            return signature
        signature = self.private.sign(data, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
        self.public.verify(signature, data, ec.ECDSA(hashes.SHA256()))
        return signature


def identity_payload(side, h, expected):
    identity = side.identity
    label = f"HBK1 identity, {side.role}".encode()
    signed = b"\x20" * 64 + label + b"\0" + h + public_of(side.static) + sha256(identity.chain[0])
    same("length of what is signed", len(signed), 185)
    payload = frame(0x81, b"".join(u16(len(der)) + der for der in identity.chain))
    payload += frame(0x82, u16(identity.algorithm))
    payload += frame(0x83, identity.sign(signed))
    if expected is not None:
        payload += frame(0x84, expected.encode())
    payload += frame(0x05, u16(side.max_record))
    if side.instance is not None:
        payload += frame(0x06, bytes.fromhex(side.instance))
    return payload


# A message, token by token


def message(vector, index, state, sides, psk):
    sender, other = sides if index % 2 == 0 else sides[::-1]
    initiator, responder = sides
    mode = vector["mode"]
    given = bytes.fromhex(vector["messages"][index]["bytes"])
    out = b""
    for token in MESSAGES[mode][index].split():
        if token == "psk":
            state.mix_key_and_hash(psk)
        elif token == "e":
            e = public_of(sender.ephemeral)
            state.mix_hash(e)
            if mode == 2:
                state.mix_key(e)
            out += e
        elif token == "s":
            out += state.encrypt_and_hash(public_of(sender.static))
        elif token == "ee":
            state.mix_key(dh(sender.ephemeral, public_of(other.ephemeral)))
        elif token == "es":
            state.mix_key(dh(initiator.ephemeral, public_of(responder.static)))
        elif token == "se":
            state.mix_key(dh(initiator.static, public_of(responder.ephemeral)))
        elif token == "e1":
            out += state.encrypt_and_hash(kem_key(initiator).public_key().public_bytes_raw())
        elif token == "ekem1":
            # The library does not encapsulate with a given m: the ciphertext is the vector's, and decapsulated.
            field = given[len(out) : len(out) + 1104]
            ciphertext = state.decrypt_and_hash(field)
            state.mix_key(kem_key(initiator).decapsulate(ciphertext))
            out += field
    payload = b""
    if mode != 2 and index > 0:
        expected = responder.identity.spiffe_id if sender is initiator else None
        payload = identity_payload(sender, state.h, expected)
    same("payload", payload.hex(), vector["messages"][index]["payload"])
    return out + state.encrypt_and_hash(payload)


def kem_key(initiator):
    return mlkem.MLKEM768PrivateKey.from_seed_bytes(bytes.fromhex(initiator.kem))


# Section 4: what came before a RETRY


def first_attempt(vector):
    first = vector.get("first")
    if first is None:
        return b""
    state = Symmetric(first["protocol"])
    hello = client_hello(first["mode"], vector["offered"], b"")
    state.mix_hash(b"HBK1/1\0" + first["protocol"].encode() + b"\0" + hello)
    e = public_of(X25519PrivateKey.from_private_bytes(bytes.fromhex(first["ephemeralPrivate"])))
    e1 = mlkem.MLKEM768PrivateKey.from_seed_bytes(bytes.fromhex(first["kem"])).public_key()
    opening = hello + frame(1, e + e1.public_bytes_raw())
    retry = frame(2, bytes([vector["mode"]]))
    same("the first attempt", [opening.hex(), retry.hex()], [flight["bytes"] for flight in vector["flights"][:2]])
    return sha256(opening, retry)


# Section 7 and 14: keys


def expand(prk, info, length):
    return hmac256(prk, info + b"\x01")[:length]


def session_of(exporter, H):
    raw = bytearray(expand(exporter, b"HBK1 session id" + H, 16))
    raw[6] = raw[6] & 0x0F | 0x80
    raw[8] = raw[8] & 0x3F | 0x80
    name = re.sub("^(.{8})(.{4})(.{4})(.{4})(.{12})$", r"\1-\2-\3-\4-\5", raw.hex())
    return name, expand(exporter, b"HBK1 session key" + H, 32).hex()


def handshake(vector, identities, sessions):
    mode = vector["mode"]
    sides = [Side(vector, role, identities) for role in ("initiator", "responder")]
    earlier = first_attempt(vector)
    ticket = psk = b""
    if mode == 2:
        ticket = bytes.fromhex(vector["ticket"]["id"])
        _, session_key = sessions[vector["ticket"]["of"]]
        psk = expand(bytes.fromhex(session_key), b"HBK1 resume" + ticket, 32)
        same("PSK", psk.hex(), vector["ticket"]["psk"])
    hello = client_hello(mode, vector["offered"], ticket)
    prologue = b"HBK1/1\0" + vector["protocol"].encode() + b"\0" + hello + earlier
    same("prologue", prologue.hex(), vector["prologue"])

    state = Symmetric(vector["protocol"])
    state.mix_hash(prologue)
    flights = vector["flights"][2:] if earlier else vector["flights"]
    same("number of messages", len(flights), len(MESSAGES[mode]))
    for index, flight in enumerate(flights):
        noise = message(vector, index, state, sides, psk)
        same("message", noise.hex(), vector["messages"][index]["bytes"])
        wire = (hello if index == 0 else b"") + frame(1, noise)
        same("flight", wire.hex(), flight["bytes"])

    k1, k2, exporter = hkdf(state.ck, b"")
    same("H", state.h.hex(), vector["handshakeHash"])
    same("k1, k2, x", [k.hex() for k in (k1, k2, exporter)], [vector[k] for k in ("k1", "k2", "exporter")])
    session = sessions[vector["ticket"]["of"]] if mode == 2 else session_of(exporter, state.h)
    same("session", list(session), [vector["sessionId"], vector["sessionKey"]])
    sessions[vector["name"]] = session
    return k1, k2


# Sections 8 and 9: records


def records(vector, k1, k2):
    keys = {"initiator": k1, "responder": k2}
    counters = {"initiator": 0, "responder": 0}
    for record in vector["records"]:
        sender = record["from"]
        key = keys[sender]
        payload = bytes.fromhex(record["payload"])
        plain = bytes([record["type"]]) + u16(len(payload)) + payload + bytes(record["padding"])
        sealed = seal(key, counters[sender], None, plain)
        same("record", (u16(len(sealed)) + sealed).hex(), record["wire"])
        counters[sender] += 1
        if record["type"] == KEY_UPDATE:
            keys[sender] = seal(key, REKEY, None, bytes(32))[:32]
    return len(vector["records"])


def main():
    with open(sys.argv[1], encoding="utf8") as file:
        vectors = json.load(file)
    bundle = bytes.fromhex(vectors["bundle"])
    identities = {name: Identity(entry, bundle) for name, entry in vectors["identities"].items()}
    sessions = {}
    sealed = sum(records(vector, *handshake(vector, identities, sessions)) for vector in vectors["handshakes"])
    print(json.dumps({"handshakes": [vector["name"] for vector in vectors["handshakes"]], "records": sealed}))


main()
