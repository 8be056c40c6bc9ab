#!/usr/bin/env python3
"""Writes golden.txt: one line `Message hex` for each message of schema.proto, encoded by protoc (Debian: protobuf-compiler).

Every field is set, by a rule that the test knows too: numbers are 1000 + the field's number, texts and bytes `s` + the number, booleans
true, doubles the number + 0.5, enumerations 2, maps one pair `k` and `v` + the number, repeated fields have one element.
"""
import os
import re
import subprocess
import sys

here = os.path.dirname(os.path.abspath(sys.argv[0]))
text = re.sub(r"//.*", "", open(f"{here}/schema.proto").read())
enums = set(re.findall(r"\benum\s+(\w+)", text))
messages = {
    name: re.findall(r"(repeated\s+)?(map<string, string>|\w+)\s+(\w+)\s*=\s*(\d+)\s*;", body)
    for name, body in re.findall(r"\bmessage\s+(\w+)\s*\{([^}]*)\}", text)
}


def fields(name):
    return " ".join(field(kind, label, number) for _, kind, label, number in messages[name])


def field(kind, label, number):
    if kind in messages:
        return f"{label} {{ {fields(kind)} }}"
    if kind.startswith("map"):
        return f'{label} {{ key: "k{number}" value: "v{number}" }}'
    if kind in enums:
        return f"{label}: {2}"
    value = {"bool": "true", "double": f"{number}.5", "string": f'"s{number}"', "bytes": f'"s{number}"'}
    return f"{label}: {value.get(kind, 1000 + int(number))}"


with open(f"{here}/golden.txt", "w") as golden:
    for name in messages:
        command = ["protoc", f"--proto_path={here}", f"--encode=knarr.{name}", "schema.proto"]
        encoded = subprocess.run(command, input=fields(name).encode(), stdout=subprocess.PIPE, check=True).stdout
        golden.write(f"{name} {encoded.hex()}\n")
