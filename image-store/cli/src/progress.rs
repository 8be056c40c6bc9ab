//! Progress on standard error: bars on a terminal, lines otherwise, nothing with `--quiet`.

use std::collections::HashMap;
use std::io::{IsTerminal as _, Write as _};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use image_store::manifest::{Descriptor, is_document};
use image_store::store::{Progress, Step};

use crate::output::size;

const REDRAW: Duration = Duration::from_millis(100);
const BAR: usize = 30;
const ENDS: &[&str] = &["Already exists", "Complete"];

/// Shows the progress of blobs.
pub(crate) struct Shown {
    state: Mutex<State>,
    quiet: bool,
    terminal: bool,
    /// `Pulling` or `Pushing`.
    verb: &'static str,
}

#[derive(Default)]
struct State {
    blobs: Vec<(String, Line)>,
    index: HashMap<String, usize>,
    drawn: usize,
    /// Number of blobs that have scrolled away.
    gone: usize,
    last: Option<Instant>,
}

#[derive(Clone)]
struct Line {
    text: &'static str,
    at: u64,
    size: u64,
}

impl Shown {
    pub(crate) fn new(quiet: bool, verb: &'static str) -> Self {
        let terminal =
            std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self { state: Mutex::default(), quiet, terminal, verb }
    }
}

impl Progress for Shown {
    fn step(&self, blob: &Descriptor, step: Step) {
        if self.quiet || is_document(&blob.media_type) {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let id = blob.digest.short().to_owned();
        let next = state.blobs.len();
        let at = *state.index.entry(id.clone()).or_insert(next);
        if at == next {
            state.blobs.push((id.clone(), Line { text: "Waiting", at: 0, size: blob.size }));
        }
        let line = &mut state.blobs[at].1;
        let text = match step {
            Step::Exists => "Already exists",
            Step::Waiting => "Waiting for another process",
            Step::Started => self.verb,
            Step::Advanced(count) => {
                line.at += count;
                self.verb
            }
            Step::Done => "Complete",
            _ => line.text,
        };
        let changed = line.text != text;
        line.text = text;
        if self.terminal {
            let due = state.last.is_none_or(|last| last.elapsed() >= REDRAW);
            if changed || due {
                draw(&mut state, self.verb);
            }
        } else if changed {
            eprintln!("{id}: {text}");
        }
    }
}

/// Draws as many lines as fit on the terminal: lines that scrolled away cannot be redrawn. If there are more blobs, complete
/// ones scroll away first.
fn draw(state: &mut State, verb: &str) {
    let (rows, columns) = rustix::termios::tcgetwinsize(std::io::stderr())
        .map_or((0, 0), |size| (usize::from(size.ws_row), usize::from(size.ws_col)));
    let (rows, columns) = (if rows > 1 { rows - 1 } else { 23 }, if columns > 0 { columns } else { 80 });
    let mut text = String::new();
    if state.drawn > 0 {
        // Back to the first line drawn before.
        text.push_str(&format!("\x1b[{}A", state.drawn));
    }
    let lines = state.blobs.get(state.gone..).unwrap_or_default();
    let too_many = lines.len().saturating_sub(rows);
    let going = lines.iter().take(too_many).take_while(|(_, line)| ENDS.contains(&line.text)).count();
    for (id, line) in lines.iter().take(going + rows) {
        let shown = row(id, line, verb);
        let shown: String = shown.chars().take(columns).collect();
        text.push_str(&format!("\r\x1b[K{shown}\n"));
    }
    state.drawn = lines.len().saturating_sub(going).min(rows);
    state.gone += going;
    state.last = Some(Instant::now());
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

fn row(id: &str, line: &Line, verb: &str) -> String {
    if line.text != verb || line.size == 0 {
        return format!("{id}: {}", line.text);
    }
    let at = line.at.min(line.size);
    let filled = usize::try_from(at * BAR as u64 / line.size).unwrap_or(BAR);
    let bar = format!("{}>", "=".repeat(filled));
    format!("{id}: {verb} [{bar:<width$}] {}/{}", size(at), size(line.size), width = BAR + 1)
}
