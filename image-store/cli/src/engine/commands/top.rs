//! `top`.

use procfs::process::{Process, Status};

use crate::cli::Args;
use crate::container::find::live;
use crate::failure::Result;
use crate::places;

/// `top CONTAINER`
pub(crate) fn top(args: &Args) -> Result<u8> {
    let store = places::store(args)?;
    let (_, live, _) = live(&store, &args.positional[0])?;
    let mut cells = vec![["UID", "PID", "PPID", "STATE", "CMD"].map(str::to_owned).to_vec()];
    cells.extend(live.processes()?.into_iter().map(row));
    crate::output::print(&crate::output::table(&cells));
    Ok(0)
}

/// A line of the table. What cannot be read is shown as `?`, since a process may exit meanwhile; one without arguments is shown by its
/// name.
fn row(pid: i32) -> Vec<String> {
    let process = Process::new(pid);
    let status = process.as_ref().ok().and_then(|process| process.status().ok());
    let field = |value: &dyn Fn(&Status) -> String| status.as_ref().map_or_else(|| "?".to_owned(), value);
    let arguments = process.ok().and_then(|process| process.cmdline().ok()).unwrap_or_default();
    vec![
        field(&|status| status.ruid.to_string()),
        pid.to_string(),
        field(&|status| status.ppid.to_string()),
        field(&|status| status.state.chars().take(1).collect()),
        if arguments.is_empty() {
            format!("[{}]", field(&|status| status.name.clone()))
        } else {
            arguments.join(" ")
        },
    ]
}
