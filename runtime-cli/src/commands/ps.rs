//! `ps`: lists the processes of a container: their pids as JSON, or their lines in the output of the host's ps(1).

use super::{Command, Context, Failure, Outcome};
use crate::output;
use goflags::{Order, Parsed};

pub(super) const COMMAND: Command = Command {
    name: "ps",
    summary: "ps displays the processes running inside a container",
    usage: "<container-id> [ps options]",
    about: "Runs the host's ps(1), by default with -ef, and prints the lines of the container's processes. The output must have a PID column.",
    flags: &[super::FORMAT],
    order: Order::First,
    arguments: (1, None),
    own: false,
    hidden: false,
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    let pids = context.container(parsed)?.processes()?;
    let text = match parsed.text("format") {
        "json" => output::json(&pids, "")? + "\n",
        "" | "table" => select(&host_ps(&parsed.positional[1..])?, &pids).map_err(Failure::new)?,
        _ => return Err(Failure::new("invalid format option")),
    };
    output::print(&text)?;
    Ok(0)
}

fn host_ps(arguments: &[String]) -> Result<String, Failure> {
    let mut command = std::process::Command::new("ps");
    if arguments.is_empty() {
        command.arg("-ef");
    }
    let output = command
        .args(arguments)
        .output()
        .map_err(|e| Failure::os("list the host's processes", "exec ps", e))?;
    if !output.status.success() {
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        return Err(Failure::new(format!("ps: {}: {out}{err}", output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Selects the heading and the lines of these processes.
fn select(table: &str, pids: &[i32]) -> Result<String, String> {
    let mut lines = table.lines();
    let heading = lines.next().unwrap_or("");
    let column = heading
        .split_whitespace()
        .position(|word| word == "PID")
        .ok_or("couldn't find PID field in ps output")?;
    let mut text = format!("{heading}\n");
    for line in lines.filter(|line| !line.is_empty()) {
        let word = line.split_whitespace().nth(column).unwrap_or("");
        let pid: i32 = word.parse().map_err(|_| format!("unable to parse pid: {word:?} in ps output"))?;
        if pids.contains(&pid) {
            text.push_str(line);
            text.push('\n');
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_a_table_are_chosen_by_its_pid_column() {
        let table = "UID   PID  PPID CMD\nroot    1     0 init 7\nroot    7     1 sleep\n\n";
        assert_eq!(select(table, &[7]).unwrap(), "UID   PID  PPID CMD\nroot    7     1 sleep\n");
        assert_eq!(select(table, &[]).unwrap(), "UID   PID  PPID CMD\n");
        assert_eq!(select("UID CMD\n", &[7]).unwrap_err(), "couldn't find PID field in ps output");
        assert_eq!(select("PID\nx\n", &[7]).unwrap_err(), "unable to parse pid: \"x\" in ps output");
    }
}
