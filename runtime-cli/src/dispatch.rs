//! From a command's name to its run: its flags, its help, the number of its arguments; and the help topics.

use crate::args::{self, Parsed};
use crate::commands::{ALL, Command, Context, Failure, Outcome};
use crate::{help, output};

/// Runs one command with the arguments after its name.
pub(crate) fn run(context: &Context, called: &str, command: &Command, arguments: &[String]) -> Outcome {
    let parsed = match args::parse(command.flags, arguments, command.order) {
        Ok(parsed) => parsed,
        Err(error) => {
            output::print(&format!(
                "Incorrect Usage: {error}\n\n{}",
                help::command(context.program, command)
            ))?;
            return Err(Failure::new(error));
        }
    };
    if parsed.is("help") {
        output::print(&help::command(context.program, command))?;
        return Ok(0);
    }
    if let Some(error) = wrong_count(command, &parsed) {
        output::print(&format!("Incorrect Usage.\n\n{}", help::command(context.program, command)))?;
        return Err(Failure::new(format!("{called}: {:?} requires {error} argument(s)", command.name)));
    }
    (command.run)(context, &parsed)
}

fn wrong_count(command: &Command, parsed: &Parsed) -> Option<String> {
    let count = parsed.positional.len();
    match command.arguments {
        (least, Some(most)) if least == most && count != least => Some(format!("exactly {least}")),
        (least, _) if count < least => Some(format!("a minimum of {least}")),
        (_, Some(most)) if count > most => Some(format!("a maximum of {most}")),
        _ => None,
    }
}

/// `help`, `help TOPIC`, and a command that is not there.
pub(crate) fn topic(program: &str, name: &str, rest: &[String]) -> Outcome {
    let topic = match (name, rest) {
        ("help" | "h", []) => {
            output::print(&crate::help(program))?;
            return Ok(0);
        }
        ("help" | "h", [topic, ..]) => topic.as_str(),
        _ => name,
    };
    match ALL.iter().find(|c| c.name == topic) {
        Some(command) => output::print(&help::command(program, command)).map(|()| 0),
        None => Err(Failure { status: 3, ..Failure::new(format!("No help topic for '{topic}'")) }),
    }
}
