//! Runs the fuzz targets for a few seconds on the same inputs each time: inputs that once failed, valid seeds, and mutations of
//! both. `make fuzz-image-store` searches for new inputs with libFuzzer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod common;
#[path = "../fuzz/targets/http.rs"]
mod http;
#[path = "../fuzz/targets/manifest.rs"]
mod manifest;
#[path = "../fuzz/targets/reference.rs"]
mod reference;
#[path = "../fuzz/targets/tar.rs"]
mod tar;

use std::fs;
use std::path::Path;

use image_store::tar::{Entry, Kind, Timestamp};

/// A pseudo-random generator (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).unwrap() % bound
    }

    /// Flips, replaces, inserts, removes or repeats bytes, or splices in those of another seed.
    fn mutate(&mut self, seeds: &[Vec<u8>], words: &[&[u8]]) -> Vec<u8> {
        let mut bytes = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len() + 1);
            let end = (at + self.below(24)).min(bytes.len());
            match self.below(7) {
                0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                1 if at < bytes.len() => bytes[at] = u8::try_from(self.below(256)).unwrap(),
                2 => drop(bytes.drain(at..end)),
                3 => {
                    let word = words[self.below(words.len())];
                    bytes.splice(at..end, word.iter().copied());
                }
                4 => {
                    let word = words[self.below(words.len())];
                    bytes.splice(at..at, word.iter().copied());
                }
                5 => {
                    let other = &seeds[self.below(seeds.len())];
                    let from = self.below(other.len() + 1);
                    bytes.truncate(at);
                    bytes.extend_from_slice(&other[from..]);
                }
                _ => {
                    let piece = bytes[at..end].to_vec();
                    bytes.splice(at..at, piece);
                }
            }
            bytes.truncate(16 << 10);
        }
        bytes
    }
}

/// Runs `target` on all seeds and on `count` mutations; prints the input of a panic.
fn search(name: &str, seeds: Vec<Vec<u8>>, words: &[&[u8]], count: usize, target: fn(&[u8])) {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/regressions").join(name);
    for entry in fs::read_dir(kept).into_iter().flatten() {
        target(&fs::read(entry.unwrap().path()).unwrap());
    }
    seeds.iter().for_each(|seed| target(seed));
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..count {
        let input = random.mutate(&seeds, words);
        if std::panic::catch_unwind(|| target(&input)).is_err() {
            panic!("{name}: fails on {:?}", String::from_utf8_lossy(&input));
        }
    }
}

#[test]
fn no_archive_makes_the_tar_reader_panic_or_escape_the_root() {
    let long = "n".repeat(300);
    let rich = Entry {
        xattrs: vec![(b"user.a".to_vec(), b"\0=\n".to_vec())],
        mtime: Timestamp { seconds: -5, nanoseconds: 7 },
        uid: 3_000_000,
        ..common::file(&long, b"").0
    };
    let mut seeds = vec![
        common::tar(&[common::file("a/b", b"content"), (rich, vec![])]),
        common::tar(&[
            (Entry::new("d/", Kind::Directory, 0o1777), vec![]),
            (Entry::new("l", Kind::Symlink(long.into_bytes()), 0o777), vec![]),
            (Entry::new("h", Kind::Hardlink(b"a/b".to_vec()), 0o644), vec![]),
            (Entry::new("c", Kind::Character(1, 3), 0o644), vec![]),
            common::file("d/.wh.x", b""),
        ]),
    ];
    let place = common::Scratch::new("mutations");
    let hole = fs::File::create(place.path().join("hole")).unwrap();
    hole.set_len(1 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&hole, b"middle", 1 << 19).unwrap();
    seeds.extend(common::SPARSE.map(|format| common::sparse_archive(&place, place.path(), format)));
    let words: [&[u8]; 12] = [
        b"../",
        b"/",
        b"\0",
        b"9223372036854775807",
        b"18446744073709551616",
        b"-1",
        b"30 path=",
        b"\n",
        b"GNU.sparse.map=0,1,2,3\n",
        b".wh..wh..opq",
        b"\xff\xff\xff\xff\xff\xff\xff\xff",
        b"size=",
    ];
    search("tar", seeds, &words, 60_000, tar::run);
}

#[test]
fn no_text_makes_the_parsers_of_names_panic_or_contradict_themselves() {
    let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let seeds = [
        "docker.io/library/alpine:3.20",
        "localhost:5000/a__b/c-d",
        "[::1]:5000/foo",
        "linux/arm64/v8",
        "ENTRYPOINT [\"a\",\"b\"]",
        "ENV a=b c=\"d e\"",
        "EXPOSE 80/tcp",
        "2024-01-02T03:04:05.678+01:00",
        &format!("sha256:{hex}"),
        &format!("quay.io/a/b:t@sha256:{hex}"),
    ];
    let seeds = seeds.iter().map(|text| text.as_bytes().to_vec()).collect();
    let words: [&[u8]; 12] = [
        b"docker.io/",
        b"library/",
        b"quay.io/",
        b"localhost",
        b":",
        b"@",
        b"/",
        b"..",
        b"__",
        b"\"",
        b"[",
        b"\\",
    ];
    search("reference", seeds, &words, 200_000, reference::run);
}

#[test]
fn no_document_makes_the_manifest_parsers_panic() {
    let digest = format!("sha256:{}", "0".repeat(64));
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"a","digest":"{digest}","size":2}},"layers":[{{"mediaType":"b","digest":"{digest}","size":7,"annotations":{{"k":"v"}}}}]}}"#
    );
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"digest":"{digest}","size":2,"platform":{{"os":"linux","architecture":"arm64","variant":"v8"}}}}]}}"#
    );
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","created":"2024-01-02T03:04:05Z","config":{{"Env":["A=b"],"Cmd":null}},"rootfs":{{"type":"layers","diff_ids":["{digest}"]}},"history":[{{"empty_layer":true}}]}}"#
    );
    let seeds = vec![manifest.into_bytes(), index.into_bytes(), config.into_bytes()];
    let words: [&[u8]; 12] = [
        b"null",
        b"[]",
        b"{}",
        b"\"manifests\":[",
        b"\"layers\":[",
        b"-1",
        b"1e999",
        b"18446744073709551616",
        b"\\ud800",
        b"[[[[[[[[[[[[",
        b",",
        b"\"",
    ];
    search("manifest", seeds, &words, 60_000, manifest::run);
}

#[test]
fn no_response_of_a_registry_makes_the_client_panic_or_hang() {
    let seeds: [&[u8]; 5] = [
        b"200 OK\r\ncontent-type: application/vnd.oci.image.manifest.v1+json\r\ncontent-length: 2\r\n\r\n{}",
        b"401 U\r\nwww-authenticate: Bearer realm=\"http://127.0.0.1:1/t\",service=\"a\"\r\ncontent-length: 0\r\n\r\n",
        b"307 T\r\nlocation: /v2/x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"200 OK\r\nlink: </v2/repo/tags/list?n=1&last=a>; rel=\"next\"\r\ncontent-length: 21\r\n\r\n{\"name\":\"\",\"tags\":[]}",
        b"429 Slow\r\nretry-after: 0\r\ncontent-length: 0\r\n\r\n",
    ];
    let words: [&[u8]; 10] = [
        b"\r\n",
        b": ",
        b"content-length: ",
        b"-1",
        b"99999999999999999999",
        b"Basic",
        b"Bearer ",
        b"\"",
        b"http://",
        b",",
    ];
    search("http", seeds.iter().map(|seed| seed.to_vec()).collect(), &words, 400, http::run);
}
