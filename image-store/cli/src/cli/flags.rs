//! Flags that several commands share.

use super::table::{Flag, switch, value};

/// Flags of every command.
pub(crate) static GLOBAL: &[Flag] = &[
    value(
        "root",
        None,
        "DIRECTORY",
        "image store (default: $KNARR_IMAGE_ROOT; else /var/lib/knarr/images for root, $XDG_DATA_HOME/knarr/images for others)",
    ),
    value(
        "keep-blobs",
        None,
        "BOOL",
        "keep compressed layers, for push and save (default: $KNARR_IMAGE_KEEP_BLOBS, or true)",
    ),
    switch("help", None, "show this help"),
];

pub(crate) const FORMAT: Flag =
    value("format", None, "TEMPLATE", "format output with a Go template, such as '{{.ID}}', or 'json'");
pub(crate) const INSPECT_FORMAT: Flag =
    value("format", Some('f'), "TEMPLATE", "format output with a Go template, such as '{{.Id}}', or 'json'");
pub(crate) const REMOTE: Flag = switch("remote", None, "inspect images in a registry, without pulling them");
pub(crate) const FORCE_PRUNE: Flag = switch("force", Some('f'), "do not ask for confirmation");
pub(crate) const JSON: Flag = switch("json", None, "print as JSON");
pub(crate) const QUIET: Flag = switch("quiet", Some('q'), "print only IDs or names; no progress");
pub(crate) const NO_TRUNC: Flag = switch("no-trunc", None, "do not truncate output");
pub(crate) const PLATFORM: Flag =
    value("platform", None, "OS/ARCH[/VARIANT]", "select the image for this platform (default: the host's)");
pub(crate) const CHANGE: Flag = value(
    "change",
    Some('c'),
    "INSTRUCTION",
    "apply Dockerfile instructions: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, USER, ...",
);
pub(crate) const COMPRESSION: Flag =
    value("compression-format", None, "FORMAT", "of uncompressed layers: gzip (default), zstd or none");
pub(crate) const MESSAGE: Flag = value("message", Some('m'), "TEXT", "commit message");
pub(crate) const CREDS: Flag = value("creds", None, "USER:PASSWORD", "user and password for the registry");
pub(crate) const AUTHFILE: Flag =
    value("authfile", None, "FILE", "credentials file (default: podman's, then Docker's)");
pub(crate) const INSECURE: Flag =
    value("tls-verify", None, "BOOL", "verify certificates and require HTTPS (default: true)");
pub(crate) const CERTS: Flag = value(
    "cert-dir",
    None,
    "DIRECTORY",
    "certificates: *.crt to trust, *.cert and *.key to present; may have HOST:PORT subdirectories",
);
