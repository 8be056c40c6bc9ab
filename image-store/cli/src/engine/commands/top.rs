//! `top`.

use crate::cli::Args;
use crate::container::find::live;
use crate::failure::Result;
use crate::places;

/// `top CONTAINER`
pub(crate) fn top(args: &Args) -> Result<u8> {
    let store = places::store(args)?;
    let (_, live, _) = live(&store, &args.positional[0])?;
    let mut cells = vec![["UID", "PID", "PPID", "STATE", "CMD"].map(str::to_owned).to_vec()];
    for pid in live.processes()? {
        let read = |name: &str| std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let status = String::from_utf8_lossy(&read("status")).into_owned();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|line| line.split_whitespace().next()).unwrap_or("?").to_owned()
        };
        let command = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ").trim_end().to_owned();
        let command = if command.is_empty() { format!("[{}]", field("Name")) } else { command };
        cells.push(vec![field("Uid"), pid.to_string(), field("PPid"), field("State"), command]);
    }
    crate::output::print(&crate::output::table(&cells));
    Ok(0)
}
