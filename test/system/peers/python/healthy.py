"""A healthy, busy grpcio client of grpc.testing.TestService, as peers/go/main.go is one of grpc-go.

Prints what came of its calls as a line of JSON. Messages are made by hand, so that nothing is generated.
"""
import collections
import concurrent.futures
import faulthandler
import json
import random
import sys
import threading
import time

import grpc

ADDRESS = sys.argv[1]
WORKERS = 32
PATIENCE = 30  # seconds; a call that nobody ends is to be told, not waited for
HALF_AN_HOUR_US = 1_800_000_000
OK = grpc.StatusCode.OK
CANCELLED = grpc.StatusCode.CANCELLED
DEADLINE_EXCEEDED = grpc.StatusCode.DEADLINE_EXCEEDED


def varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out + bytes([value]))


def number(field, value):
    return varint(field << 3) + varint(value)


def octets(field, value):
    return varint(field << 3 | 2) + varint(len(value)) + value


def payload(size):
    return octets(2, bytes(size))


def responses(size, interval_us=0):
    """A StreamingOutputCallRequest that asks for one response."""
    return octets(2, number(1, size) + number(2, interval_us))


UNARY = number(2, 100) + octets(3, payload(100))  # a SimpleRequest
SLEEPY = responses(1, HALF_AN_HOUR_US)

# Says where it hangs, should it.
faulthandler.dump_traceback_later(90, exit=True)

counts = collections.Counter()
unexpected = []
lock = threading.Lock()


def end(phase, code, details, *allowed):
    with lock:
        counts[f"{phase} {code.name}"] += 1
        if code not in allowed and len(unexpected) < 20:
            unexpected.append(f"{phase}: {code.name} {details}")


def each(n, call):
    """Runs n calls, a few at a time."""
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        for done in [pool.submit(call, i) for i in range(n)]:
            done.result()


channel = grpc.insecure_channel(
    ADDRESS,
    options=[
        ("grpc.enable_retries", 0),
        ("grpc.enable_http_proxy", 0),
        ("grpc.keepalive_time_ms", 100),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.min_time_between_pings_ms", 100),
    ],
)
SERVICE = "/grpc.testing.TestService/"
empty_call = channel.unary_unary(SERVICE + "EmptyCall")
unary_call = channel.unary_unary(SERVICE + "UnaryCall")
input_call = channel.stream_unary(SERVICE + "StreamingInputCall")
output_call = channel.unary_stream(SERVICE + "StreamingOutputCall")
duplex_call = channel.stream_stream(SERVICE + "FullDuplexCall")


def half_cancelled(_):
    call = unary_call.future(UNARY, timeout=PATIENCE)
    allowed = [OK]
    if random.random() < 0.5:
        allowed.append(CANCELLED)
        time.sleep(random.random() * 0.003)
        call.cancel()
    end("half cancelled", call.code(), call.details(), *allowed)


def deadline(_):
    call = output_call(SLEEPY, timeout=0.02)
    end("deadlines", call.code(), call.details(), DEADLINE_EXCEEDED)


def first_message(_):
    hold = threading.Event()

    def requests():
        yield responses(10)
        hold.wait()

    call = duplex_call(requests(), timeout=PATIENCE)
    try:
        next(call)
        call.cancel()
        end("first message", OK, "", OK)
    except grpc.RpcError as error:
        end("first message", error.code(), error.details(), OK)
    finally:
        hold.set()


def half_closes(i):
    call = input_call.future((octets(1, payload(n)) for n in range(i % 4)), timeout=PATIENCE)
    end("half-closes", call.code(), call.details(), OK)


def metadata(i):
    fields = [(f"x-meta-{n}", "v" * 300 + str(i)) for n in range(20)]
    call = empty_call.future(b"", metadata=fields, timeout=PATIENCE)
    end("metadata", call.code(), call.details(), OK)


def small_messages(_):
    call = duplex_call((responses(1) for _ in range(100)), timeout=PATIENCE)
    try:
        for _ in call:
            pass
    except grpc.RpcError:
        pass  # its code says it
    end("small messages", call.code(), call.details(), OK)


each(2000, half_cancelled)
each(1200, deadline)
each(1000, first_message)
each(500, half_closes)
each(300, metadata)
each(WORKERS, small_messages)
time.sleep(1)  # idle, but for keepalive
last = empty_call.future(b"", timeout=PATIENCE)
end("last", last.code(), last.details(), OK)
channel.close()
print(json.dumps({"counts": counts, "unexpected": unexpected}))
