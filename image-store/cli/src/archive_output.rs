//! Where archives are written to.

use std::fs::File;
use std::io::{IsTerminal as _, Write};

use crate::cli::Args;
use crate::failure::{Result, invalid, os};

/// Writes to the file that `--output` names, which appears only when it is complete, or to standard output, which must not be a
/// terminal.
pub(crate) fn write_to(args: &Args, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let Some(path) = args.get("output") else {
        let mut stdout = std::io::stdout().lock();
        if stdout.is_terminal() {
            return Err(invalid("refusing to write an archive to a terminal: use -o FILE or redirect"));
        }
        write(&mut stdout)?;
        return Ok(stdout.flush()?);
    };
    let failed = |error: std::io::Error, path: &str| os(error, format!("write {path:?}"));
    // Devices and pipes are written to directly.
    if std::fs::metadata(path).is_ok_and(|meta| !meta.is_file()) {
        let mut file = File::options().write(true).open(path).map_err(|e| failed(e, path))?;
        return write(&mut file);
    }
    let temporary = format!("{path}.{}", std::process::id());
    let mut file = File::create_new(&temporary).map_err(|e| failed(e, &temporary))?;
    let written =
        write(&mut file).and_then(|()| std::fs::rename(&temporary, path).map_err(|e| failed(e, path)));
    written.inspect_err(|_| drop(std::fs::remove_file(&temporary)))
}
