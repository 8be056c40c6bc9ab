//! Flags that several commands share.

use super::table::{Flag, switch, value};

/// Flags of every command.
pub(crate) static GLOBAL: &[Flag] = &[
    value(
        "root",
        None,
        "FOLDER",
        "the store (default: $KNARR_IMAGE_ROOT, /var/lib/knarr/images, or below $XDG_DATA_HOME)",
    ),
    value(
        "keep-blobs",
        None,
        "BOOL",
        "false: keep layers unpacked only, which can then not be pushed or saved (default: $KNARR_IMAGE_KEEP_BLOBS, true)",
    ),
    switch("help", None, "show this"),
];

pub(crate) const FORMAT: Flag =
    value("format", None, "TEMPLATE", "print with a Go template, such as '{{.ID}}' or 'json'");
pub(crate) const INSPECT_FORMAT: Flag =
    value("format", Some('f'), "TEMPLATE", "print with a Go template, such as '{{.Id}}' or 'json'");
pub(crate) const REMOTE: Flag = switch("remote", None, "of images at a registry, without getting them");
pub(crate) const FORCE_PRUNE: Flag = switch("force", Some('f'), "do not ask");
pub(crate) const JSON: Flag = switch("json", None, "print JSON");
pub(crate) const QUIET: Flag = switch("quiet", Some('q'), "print only what scripts need");
pub(crate) const NO_TRUNC: Flag = switch("no-trunc", None, "print long values whole");
pub(crate) const PLATFORM: Flag =
    value("platform", None, "OS/ARCH[/VARIANT]", "the image for this platform (default: this machine's)");
pub(crate) const CHANGE: Flag = value(
    "change",
    Some('c'),
    "INSTRUCTION",
    "change the config: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, USER, ...",
);
pub(crate) const MESSAGE: Flag = value("message", Some('m'), "TEXT", "a remark for the history");
pub(crate) const CREDS: Flag = value("creds", None, "USER:PASSWORD", "authenticate with these");
pub(crate) const AUTHFILE: Flag =
    value("authfile", None, "FILE", "credentials file (default: those of podman and Docker)");
pub(crate) const INSECURE: Flag =
    value("tls-verify", None, "BOOL", "false: accept any certificate, and plain http");
pub(crate) const CERTS: Flag = value(
    "cert-dir",
    None,
    "FOLDER",
    "a folder with *.crt to trust, our *.cert and *.key, or with such folders HOST:PORT",
);
