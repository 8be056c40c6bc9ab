//! `verify`: whether blobs, layers, images and volumes are intact.

use image_store::digest::Digest;
use image_store::store::{Finding, Part};
use image_store::{ErrorKind, Store};
use serde_json::{Value, json};

use crate::cli::Args;
use crate::container::find;
use crate::failure::{Failure, Result};
use crate::output::{line, pretty, print};
use crate::places;

/// `verify`: 0 if everything is intact or was repaired.
pub(crate) fn verify(args: &Args) -> Result<u8> {
    let store = places::store(args)?;
    let mut findings = store.verify(false)?;
    if args.has("repair") && !findings.is_empty() {
        keep_running(&store, &findings)?;
        findings = store.verify(true)?;
    }
    let text = |part: &Part| match part {
        Part::Blob(digest) => format!("blob {digest}"),
        Part::Layer(digest) => format!("layer {digest}"),
        Part::Image(name) => format!("image {name}"),
        Part::Volume(name) => format!("volume {name}"),
    };
    if args.has("json") {
        let list: Vec<_> = findings
            .iter()
            .map(|finding| json!({ "Part": text(&finding.part), "Why": finding.why, "Repaired": finding.repaired }))
            .collect();
        print(&format!("{}\n", pretty(&Value::Array(list))?));
    } else {
        for finding in &findings {
            let repaired = if finding.repaired { " (repaired)" } else { "" };
            line(&format!("{}: {}{repaired}", text(&finding.part), finding.why));
        }
    }
    Ok(u8::from(findings.iter().any(|finding| !finding.repaired)))
}

/// Unpacking a layer again deletes the old files, also below a running container: refuses that.
fn keep_running(store: &Store, findings: &[Finding]) -> Result<()> {
    let damaged = |layer: &Digest| findings.iter().any(|finding| finding.part == Part::Layer(layer.clone()));
    for container in store.containers()?.intact {
        if container.layers.iter().any(damaged) && find::is_running(&container.id) {
            let message = format!(
                "container {}: uses a damaged layer: stop it before using --repair",
                &container.id[..12]
            );
            return Err(Failure::new(ErrorKind::Busy, message));
        }
    }
    Ok(())
}
