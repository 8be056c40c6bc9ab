#!/usr/bin/env python3
"""Makes an OCI layout of three gzip layers from a Debian tree: layout.py TREE OUTPUT.
The layers are what a large application image looks like: libraries, programs, data; about 1 GB unpacked."""
import hashlib, json, os, subprocess, sys

tree, out = sys.argv[1], sys.argv[2]
blobs = os.path.join(out, "blobs/sha256")
os.makedirs(blobs, exist_ok=True)

def blob(data):
    digest = hashlib.sha256(data).hexdigest()
    with open(os.path.join(blobs, digest), "wb") as file:
        file.write(data)
    return {"digest": "sha256:" + digest, "size": len(data)}

def layer(paths):
    tar = ["tar", "-C", tree, "--sort=name", "--format=pax", "--pax-option=delete=atime,delete=ctime",
           "--numeric-owner", "-c", *paths]
    plain, packed = hashlib.sha256(), hashlib.sha256()
    path = os.path.join(blobs, "new")
    source = subprocess.Popen(tar, stdout=subprocess.PIPE)
    with open(path, "wb") as file:
        gzip = subprocess.Popen(["gzip", "-6n"], stdin=subprocess.PIPE, stdout=file)
        while piece := source.stdout.read(1 << 20):
            plain.update(piece)
            gzip.stdin.write(piece)
        gzip.stdin.close()
        gzip.wait()
    source.wait()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            packed.update(piece)
    size = os.path.getsize(path)
    os.rename(path, os.path.join(blobs, packed.hexdigest()))
    return ({"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": "sha256:" + packed.hexdigest(),
             "size": size}, "sha256:" + plain.hexdigest())

layers = [layer(["usr/lib"]), layer(["usr/bin", "usr/sbin"]), layer(["usr/share", "usr/include", "etc"])]
config = blob(json.dumps({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/bash"]},
                          "rootfs": {"type": "layers", "diff_ids": [l[1] for l in layers]}}).encode())
manifest = blob(json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **config},
                            "layers": [l[0] for l in layers]}).encode())
with open(os.path.join(out, "oci-layout"), "w") as file:
    file.write('{"imageLayoutVersion":"1.0.0"}')
with open(os.path.join(out, "index.json"), "w") as file:
    json.dump({"schemaVersion": 2, "manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json", **manifest,
               "annotations": {"org.opencontainers.image.ref.name": "bench"}}]}, file)
