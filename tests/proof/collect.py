"""What arrived: the records of every stream, in the order of the stream.

A stream is what promises an order: a partition of a topic, or a topic's files.
"""

import json
import subprocess
from pathlib import Path

from kit import tool


def from_kafka(kafka, prefix):
    """(stream, key, value) of every record of the topics that begin with `prefix`."""
    for topic, partitions in sorted(kafka.topics().items()):
        if not topic.startswith(prefix):
            continue
        for partition in range(partitions):
            yield from _partition(kafka, topic, partition)


def _partition(kafka, topic, partition):
    command = [
        tool("kcat"), "-b", kafka.brokers, "-C", "-q", "-e", "-t", topic, "-p", str(partition),
        "-o", "beginning", "-f", "%K\t%S\t%k\t%s\n",
        "-X", "fetch.message.max.bytes=104857600", "-X", "receive.message.max.bytes=209715200",
    ]
    stream = f"{topic}/{partition}"
    with subprocess.Popen(command, stdout=subprocess.PIPE) as consumer:
        for line in consumer.stdout:
            # JSON text holds neither tabs nor line feeds of its own; a length of -1 is a null.
            key_length, value_length, key, value = line.rstrip(b"\n").split(b"\t")
            if int(value_length) < 0:
                value = None
            elif int(value_length) != len(value):
                raise RuntimeError(f"a record of {stream} is not one line of JSON")
            yield stream, (None if int(key_length) < 0 else key), value
    if consumer.returncode != 0:
        raise RuntimeError(f"the consumer of {stream} failed")


def from_jsonl(folder, prefix):
    """(stream, None, value) of every committed line of such topics in a folder of the jsonl sink."""
    folder = Path(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    for topic, mark in sorted(manifest["topics"].items()):
        if not topic.startswith(prefix):
            continue
        for segment in sorted((folder / topic).glob("*.jsonl"), key=lambda file: int(file.stem)):
            left = mark["length"] if int(segment.stem) == mark["segment"] else None
            if int(segment.stem) > mark["segment"]:
                continue
            with open(segment, "rb") as lines:
                for line in lines:
                    if left is not None:
                        left -= len(line)
                        if left < 0:
                            break
                    if not line.endswith(b"\n"):
                        raise RuntimeError(f"{segment} ends inside a line")
                    yield topic, None, line.rstrip(b"\n")
