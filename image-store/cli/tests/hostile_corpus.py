"""Malicious images: layers and documents that violate rules, each as an OCI layout with one image named `t`.

`write(directory)` writes them all and returns their names. A case is a function that changes a Layout; most add one layer to a
valid one. Files outside the root that layers try to reach are called `canary`.
"""
import gzip, hashlib, json, os, tarfile

OUTSIDE = "mnt/outside"


def entry(name, kind=b"0", data=b"", link="", pax=None, **fields):
    """An entry with its data and padding; NAME and LINK may be bytes."""
    info = tarfile.TarInfo(os.fsdecode(name))
    info.type, info.linkname, info.size, info.mtime = kind, os.fsdecode(link), len(data), 1_000_000_000
    info.mode = 0o755 if kind == b"5" else 0o644
    info.pax_headers = pax or {}
    for key, value in fields.items():
        setattr(info, key, value)
    blocks = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    return blocks + data + bytes(-len(data) % 512)


def file(name, data=b"new", **fields):
    return entry(name, b"0", data, **fields)


def directory(name, **fields):
    return entry(name, b"5", **fields)


def link(name, target):
    return entry(name, b"2", link=target, mode=0o777)


def hard(name, target):
    return entry(name, b"1", link=target)


def node(name, kind, major, minor):
    return entry(name, kind, devmajor=major, devminor=minor)


def header(name, size=0, kind=b"0", magic=b"ustar\x0000", **at):
    """A handmade header block; AT: offset (as o345) to bytes."""
    block = bytearray(512)

    def put(offset, text):
        block[offset:offset + len(text)] = text

    put(0, os.fsencode(name)), put(100, b"0000644\0"), put(108, b"0000000\0"), put(116, b"0000000\0")
    put(124, b"%011o\0" % size if isinstance(size, int) else size), put(136, b"07346545000\0"), put(156, kind), put(257, magic)
    for offset, text in at.items():
        put(int(offset[1:]), text)
    put(148, b"        ")
    put(148, b"%06o\0 " % sum(block))
    return bytes(block)


def extended(records, kind=b"x"):
    """An extended header of raw bytes."""
    return header("pax", len(records), kind) + records + bytes(-len(records) % 512)


def record(key, value):
    body = b" " + key + b"=" + value + b"\n"
    length = len(body) + len(str(len(body)))
    length += len(str(length)) != len(str(len(body)))
    return str(length).encode() + body


END = bytes(1024)
BASE = (directory("./") + directory("etc") + file("etc/passwd", b"root:x:0:0::/:/bin/sh\n") + directory("usr") + directory("usr/lib")
        + file("usr/lib/libc", b"lower") + link("lib", "usr/lib") + directory("data") + file("data/old", b"old")
        + file("data/keep", b"keep") + directory("data/sub", mode=0o700) + file("data/sub/x", b"x")
        + directory("tmp", mode=0o1777) + link("out", "/" + OUTSIDE) + END)


class Layout:
    """An OCI layout that is being written."""

    def __init__(self, path):
        self.path, self.layers, self.diff_ids = path, [], []
        os.makedirs(f"{path}/blobs/sha256")
        self.layer(BASE)

    def blob(self, data, media):
        digest = hashlib.sha256(data).hexdigest()
        with open(f"{self.path}/blobs/sha256/{digest}", "wb") as out:
            out.write(data)
        return {"mediaType": media, "digest": "sha256:" + digest, "size": len(data)}

    def layer(self, tar, packed=None, media="application/vnd.oci.image.layer.v1.tar+gzip"):
        self.layers.append(self.blob(gzip.compress(tar, mtime=0) if packed is None else packed, media))
        self.diff_ids.append("sha256:" + hashlib.sha256(tar).hexdigest())

    def config(self):
        return {"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/sh"]},
                "rootfs": {"type": "layers", "diff_ids": self.diff_ids}}

    def manifest(self, config=None):
        config = json.dumps(self.config()).encode() if config is None else config
        return {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": self.blob(config, "application/vnd.oci.image.config.v1+json"), "layers": self.layers}

    def finish(self, document=None, media="application/vnd.oci.image.manifest.v1+json"):
        document = self.manifest() if document is None else document
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        root = self.blob(data, media)
        root["annotations"] = {"org.opencontainers.image.ref.name": "t"}
        with open(f"{self.path}/oci-layout", "w") as out:
            out.write('{"imageLayoutVersion":"1.0.0"}')
        with open(f"{self.path}/index.json", "w") as out:
            json.dump({"schemaVersion": 2, "manifests": [root]}, out)


UP = "../" * 20
GNU = b"ustar  \0"
SPARSE_OLD = header("hole", 512, b"S", GNU, o386=b"%011o\0%011o\0" % (4096, 512), o483=b"%011o\0" % 8192) + b"s" * 512
SPARSE_1 = (extended(record(b"GNU.sparse.major", b"1") + record(b"GNU.sparse.minor", b"0") + record(b"GNU.sparse.name", b"hole1")
                     + record(b"GNU.sparse.realsize", b"8192"))
            + header("GNUSparseFile.0/hole1", 1024) + b"1\n4096\n512\n".ljust(512, b"\0") + b"s" * 512)
OVERLAP = header("hole", 1024, b"S", GNU, o386=b"%011o\0%011o\0%011o\0%011o\0" % (0, 512, 256, 512), o483=b"%011o\0" % 8192) + b"s" * 1024
INNER = file("smuggled", b"evil")

# One layer more each, without its end marker.
LAYERS = {
    "a name with dots": file(UP + OUTSIDE + "/x"),
    "a name with dots inside": directory("a") + file("a/../../" + OUTSIDE + "/x"),
    "an absolute name": file("/" + OUTSIDE + "/x"),
    "through an absolute link": link("evil", "/" + OUTSIDE) + file("evil/x"),
    "through a relative link": link("evil", UP + OUTSIDE) + file("evil/x"),
    "through a chain of links": link("a", "b") + link("b", "/mnt") + file("a/outside/x"),
    "through a link of a lower layer": file("lib/new"),
    "through a lower link that leads out": file("out/x"),
    "through a loop of links": link("a", "b") + link("b", "a") + file("a/x"),
    "a directory over a link": link("evil", "/" + OUTSIDE) + directory("evil", mode=0o700) + file("evil/x"),
    "a hard link with dots": hard("x", UP + OUTSIDE + "/canary"),
    "an absolute hard link": hard("x", "/" + OUTSIDE + "/canary"),
    "a hard link through a link": link("evil", "/" + OUTSIDE) + hard("x", "evil/canary"),
    "a hard link to a link": link("s", "/" + OUTSIDE + "/canary") + hard("x", "s"),
    "a hard link to a lower layer": hard("x", "data/old"),
    "a hard link to itself": file("a") + hard("a", "a"),
    "a hard link to a directory": directory("a") + hard("x", "a"),
    "a hard link before its target": hard("x", "later") + file("later"),
    "a whiteout through a link": link("evil", "/" + OUTSIDE) + file("evil/.wh.canary", b""),
    "an opaque mark through a link": link("evil", "/" + OUTSIDE) + file("evil/.wh..wh..opq", b""),
    "a whiteout of the parent": file("data/.wh...", b""),
    "a whiteout of the directory itself": file("data/.wh..", b""),
    "a whiteout of nothing": file("data/.wh.", b""),
    "a whiteout as a directory": file("data/.wh.sub/x", b""),
    "a whiteout with dots": file("data/.wh.x/../../" + OUTSIDE + "/.wh.canary", b""),
    "devices": directory("dev") + node("dev/null", b"3", 1, 3) + node("dev/loop0", b"4", 7, 0) + entry("dev/pipe", b"6"),
    "a device over a link": link("evil", "/" + OUTSIDE + "/canary") + node("evil", b"3", 1, 3),
    "overlay's own whiteout": node("data/old", b"3", 0, 0),
    "a component of 255 bytes": file("n" * 255),
    "a component of 256 bytes": file("n" * 256),
    "names that are no UTF-8": file(b"\xff\xfe\xc0\x80") + file(b"a\nb\x1b[31m"),
    "200 directories deep": file("d/" * 200 + "f"),
    "2100 directories deep": file("d/" * 2100 + "f"),
    "a PAX size that hides entries": extended(record(b"size", str(len(INNER)).encode())) + header("outer", 0) + INNER + file("after"),
    "a PAX path over another": extended(record(b"path", b"data/renamed")) + header("harmless", 3) + b"new".ljust(512, b"\0"),
    "a PAX path with dots": extended(record(b"path", (UP + OUTSIDE + "/x").encode())) + header("harmless", 3) + b"new".ljust(512, b"\0"),
    "a PAX path with a NUL": extended(record(b"path", b"a\0b")) + header("harmless", 3) + b"new".ljust(512, b"\0"),
    "a PAX linkpath": extended(record(b"linkpath", b"data/keep")) + header("l", 0, b"2", o157=b"etc"),
    "a PAX record that is too long": extended(b"99999 path=x\n") + header("harmless", 3) + b"new".ljust(512, b"\0"),
    "a PAX record of negative length": extended(b"-5 path=x\n") + header("harmless", 3) + b"new".ljust(512, b"\0"),
    "a global PAX path": extended(record(b"path", b"data/global"), b"g") + file("harmless"),
    "a PAX uid that is too large": extended(record(b"uid", b"4294967296")) + header("harmless", 3) + b"new".ljust(512, b"\0"),
    "a PAX uid": extended(record(b"uid", b"3000000000")) + header("harmless", 3) + b"new".ljust(512, b"\0"),
    "a negative PAX size": extended(record(b"size", b"-1")) + header("harmless", 0),
    "a size in base 256": header("b256", b"\x80" + bytes(10) + b"\x03") + b"new".ljust(512, b"\0"),
    "a negative size in base 256": header("b256", b"\xff" * 12),
    "overlay attributes": extended(record(b"SCHILY.xattr.trusted.overlay.opaque", b"y") + record(b"SCHILY.xattr.trusted.overlay.redirect", b"/etc"))
                          + header("data/", 0, b"5", o100=b"0000755\0"),
    "a GNU sparse file": SPARSE_OLD,
    "a PAX sparse file": SPARSE_1,
    "a sparse map that overlaps": OVERLAP,
    "a wrong checksum": header("x", 3)[:148] + b"000001\0 " + header("x", 3)[156:] + b"new".ljust(512, b"\0"),
    "a file twice": file("a", b"1") + file("a", b"22"),
    "a directory twice": directory("a", mode=0o700) + file("a/f") + directory("a", mode=0o750),
    "a file, a directory, a file": file("a") + directory("a") + file("a/f") + file("a", b"last"),
    "a file over a link": link("b", "/" + OUTSIDE + "/canary") + file("b", b"replaced"),
    "a directory that becomes a link": directory("c") + file("c/f") + link("c", "/" + OUTSIDE) + file("c/x"),
    "opaque after children": directory("data") + file("data/new") + file("data/.wh..wh..opq", b""),
    "opaque before children": directory("data") + file("data/.wh..wh..opq", b"") + file("data/new"),
    "an opaque root": file(".wh..wh..opq", b"") + file("only"),
    "whiteouts": file("data/.wh.old", b"") + file("data/sub/.wh.x", b"") + file(".wh.lib", b""),
    "a whiteout after its own entry": file("data/old", b"own") + file("data/.wh.old", b""),
    "a whiteout before its own entry": file("data/.wh.old", b"") + file("data/old", b"own"),
    "a whiteout of what was never there": file("data/.wh.never", b"") + file("nowhere/.wh.never", b""),
    "a directory over a file": directory("data/old") + file("data/old/f"),
    "a file over a directory": file("data/sub", b"no directory any more"),
    "a directory removed and made again": file("data/.wh.sub", b"") + directory("data/sub") + file("data/sub/y"),
    "a whiteout of a link's directory": file(".wh.out", b"") + directory("out") + file("out/x"),
    "bookkeeping of aufs": directory(".wh..wh.plnk") + file(".wh..wh.plnk/1.2", b"") + file(".wh..wh.aufs", b""),
    "an implied directory": file("tmp/x"),
    "set-uid and owners": file("su", mode=0o4755, uid=12, gid=34) + directory("sticky", mode=0o1777, uid=5),
    "times before 1970 and between seconds": file("early", mtime=-1.5) + file("late", mtime=4_000_000_000.25),
    "an unknown kind": entry("what", b"Z"),
    "a file with a slash at its end": file("slash/", b""),
    "only a root": directory("./", mode=0o711),
    "a root that is a file": file("./", b"x"),
}


def raw(tar, packed=None, **more):
    return lambda layout: layout.layer(tar, packed, **more)


def zipped(data):
    return gzip.compress(data, mtime=0)


VALID = file("honest") + END
# A whole layer each, as a tar archive and as compressed.
STREAMS = {
    "bytes after the end of the archive": raw(VALID + b"after the end"),
    "a second archive after the end": raw(VALID + file("second") + END),
    "bytes after the gzip stream": raw(VALID, zipped(VALID) + b"garbage"),
    "zeros after the gzip stream": raw(VALID, zipped(VALID) + bytes(512)),
    "two gzip members": raw(VALID, zipped(VALID[:700]) + zipped(VALID[700:])),
    "no end marker": raw(file("honest")),
    "one zero block and then entries": raw(file("honest") + bytes(512) + file("second") + END),
    "an archive that is cut": raw(file("honest", b"x" * 2000)[:1500]),
    "a header that is cut": raw(file("honest") + header("x")[:300]),
    "a gzip stream that is cut": raw(VALID, zipped(VALID)[:-6]),
    "a gzip stream with a wrong checksum": raw(VALID, zipped(VALID)[:-8] + b"\1\2\3\4" + zipped(VALID)[-4:]),
    "an empty layer": raw(END),
    "a layer of no bytes": raw(b""),
    "no compression where gzip is promised": raw(VALID, VALID),
    "gzip where none is promised": raw(VALID, media="application/vnd.oci.image.layer.v1.tar"),
    "no tar at all": raw(b"#!/bin/sh\necho no tar\n" * 100),
}


def wrong(change):
    """A valid image whose manifest is changed."""
    def make(layout):
        layout.layer(VALID)
        document = layout.manifest()
        result = change(document, layout)
        layout.finish(document if result is None else result)
        return True
    return make


def sized(by):
    return wrong(lambda document, _: document["layers"][1].update(size=document["layers"][1]["size"] + by))


def configured(change):
    def make(document, layout):
        config = layout.config()
        result = change(config, layout)
        return layout.manifest(json.dumps(config).encode() if result is None else result)
    return wrong(make)


def nested(depth):
    def make(layout):
        layout.layer(VALID)
        document, media = layout.manifest(), "application/vnd.oci.image.manifest.v1+json"
        for _ in range(depth):
            data = layout.blob(json.dumps(document).encode(), media)
            media = "application/vnd.oci.image.index.v1+json"
            document = {"schemaVersion": 2, "mediaType": media, "manifests": [data]}
        layout.finish(document, media)
        return True
    return make


def other_platform(layout):
    layout.layer(VALID)
    data = layout.blob(json.dumps(layout.manifest()).encode(), "application/vnd.oci.image.manifest.v1+json")
    data["platform"] = {"os": "plan9", "architecture": "mips"}
    media = "application/vnd.oci.image.index.v1+json"
    layout.finish({"schemaVersion": 2, "mediaType": media, "manifests": [data]}, media)
    return True


DOCUMENTS = {
    "a layer that is one byte longer": sized(-1),
    "a layer that is one byte shorter": sized(1),
    "a negative size": wrong(lambda d, _: d["layers"][1].update(size=-1)),
    "another digest": wrong(lambda d, _: d["layers"][1].update(digest=d["layers"][0]["digest"])),
    "a digest that is a path": wrong(lambda d, _: d["layers"][1].update(digest="sha256:" + "../" * 21 + "x")),
    "an unknown algorithm": wrong(lambda d, _: d["layers"][1].update(digest="md5:d41d8cd98f00b204e9800998ecf8427e")),
    "layers and manifests at once": wrong(lambda d, _: d.update(manifests=[])),
    "a missing blob": wrong(lambda d, _: d["layers"][1].update(digest="sha256:" + "0" * 64)),
    "layers that are null": wrong(lambda d, _: d.update(layers=None)),
    "an unknown type of layer": wrong(lambda d, _: d["layers"][1].update(mediaType="application/x-evil")),
    "an encrypted layer": wrong(lambda d, _: d["layers"][1].update(mediaType="application/vnd.oci.image.layer.v1.tar+gzip+encrypted")),
    "another version of the schema": wrong(lambda d, _: d.update(schemaVersion=1)),
    "a manifest that is an index": wrong(lambda d, _: d.update(mediaType="application/vnd.oci.image.index.v1+json")),
    "no JSON": wrong(lambda *_: b"{"),
    "JSON of great depth": wrong(lambda *_: b"[" * 100_000 + b"]" * 100_000),
    "too few diffIDs": configured(lambda c, _: c["rootfs"].update(diff_ids=c["rootfs"]["diff_ids"][:1])),
    "too many diffIDs": configured(lambda c, _: c["rootfs"].update(diff_ids=c["rootfs"]["diff_ids"] + ["sha256:" + "0" * 64])),
    "another diffID": configured(lambda c, _: c["rootfs"].update(diff_ids=[c["rootfs"]["diff_ids"][0], "sha256:" + "0" * 64])),
    "a config that is no JSON": configured(lambda *_: b"no json"),
    "an empty config": configured(lambda *_: b"{}"),
    "no rootfs": configured(lambda c, _: c.update(rootfs=None)),
    "a config of a wrong type": configured(lambda c, _: c.update(config="text")),
    "the same layer twice": wrong(lambda d, layout: (layout.layer(VALID), layout.manifest())[1]),
    "an index in an index": nested(1),
    "an index in an index in an index": nested(2),
    "eight nested indexes": nested(8),
    "only another platform": other_platform,
}


def write(target):
    """Writes all cases below TARGET; returns (directory, name) of each."""
    cases = {name: raw(layer + END) for name, layer in LAYERS.items()} | STREAMS | DOCUMENTS
    made = []
    for number, (name, make) in enumerate(cases.items()):
        path = os.path.join(target, f"case{number}")
        layout = Layout(path)
        if not make(layout):
            layout.finish()
        made.append((f"case{number}", name))
    return made
