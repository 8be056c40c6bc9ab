//! Runs a command after looking at its flags and the number of its arguments, or prints its help.

use crate::commands::{self, Command};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::{global, help, output};
use goflags::Parsed;

/// Runs one command with the arguments after its name.
pub(crate) fn run(context: &Context, called: &str, command: &Command, arguments: &[String]) -> Outcome {
    let parsed = match goflags::parse(&[command.flags, global::HELP], arguments, command.order) {
        Ok(parsed) => parsed,
        Err(error) => {
            output::print(&format!(
                "Incorrect Usage: {error}\n\n{}",
                help::command(context.program, command)
            ))?;
            return Err(error.into());
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

/// `help`, `help TOPIC`, and unknown commands.
pub(crate) fn topic(program: &str, name: &str, rest: &[String]) -> Outcome {
    let topic = match (name, rest) {
        ("help" | "h", []) => {
            output::print(&help::program(program))?;
            return Ok(0);
        }
        ("help" | "h", [topic, ..]) => topic.as_str(),
        _ => name,
    };
    match commands::find(topic) {
        Some(command) => output::print(&help::command(program, command)).map(|()| 0),
        None => Err(Failure { status: 3, ..Failure::new(format!("No help topic for '{topic}'")) }),
    }
}

#[cfg(test)]
mod tests {
    use crate::global::HELP;
    use goflags::{Flag, Order, parse};

    #[test]
    fn every_command_line_may_ask_for_help() {
        const FLAGS: &[Flag] = &[Flag::text(&["bundle", "b"], "")];
        let is_help = |args: &[&str], order| {
            let args: Vec<String> = args.iter().map(|a| (*a).to_owned()).collect();
            parse(&[FLAGS, HELP], &args, order).unwrap().is("help")
        };
        for args in [["-h"].as_slice(), &["--help"], &["id", "-h"], &["-help", "-b", "x"]] {
            assert!(is_help(args, Order::Anywhere), "{args:?}");
        }
        assert!(!is_help(&["id", "-h"], Order::First));
    }
}
