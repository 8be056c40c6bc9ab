//! Standard output: tables, templates, JSON, human-readable sizes and times.

use std::io::Write as _;

use image_store::ErrorKind;
use serde_json::Value;

use crate::cli::Args;
use crate::failure::{Failure, Result};
use crate::template::Template;

/// Prints a text. A closed pipe (`| head`) is not an error.
pub(crate) fn print(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

pub(crate) fn line(text: &str) {
    print(&format!("{text}\n"));
}

/// Prints rows as by `--format`, `--json`, or else as a table with `columns` (head and field).
pub(crate) fn rows(args: &Args, columns: &[(&str, &str)], rows: &[Value]) -> Result<()> {
    if args.has("json") {
        print(&format!("{}\n", pretty(&Value::Array(rows.to_vec()))?));
        return Ok(());
    }
    if let Some(format) = args.get("format").filter(|format| *format != "table") {
        let template = Template::parse(format)?;
        let lines = rows.iter().map(|row| template.fill(row)).collect::<Result<Vec<_>>>()?;
        if !template.table {
            print(&lines.iter().map(|line| format!("{line}\n")).collect::<String>());
            return Ok(());
        }
        let split = |line: &String| line.split('\t').map(str::to_owned).collect::<Vec<_>>();
        let known = |field: &str| {
            let column = columns.iter().find(|(_, own)| *own == field);
            column.map_or_else(|| field.to_uppercase(), |(head, _)| (*head).to_owned())
        };
        let mut cells = vec![split(&template.heads(&known))];
        cells.extend(lines.iter().map(split));
        print(&table(&cells));
        return Ok(());
    }
    let mut cells: Vec<Vec<String>> = vec![columns.iter().map(|(head, _)| (*head).to_owned()).collect()];
    for row in rows {
        let cell = |(_, field): &(&str, &str)| row[field].as_str().unwrap_or_default().to_owned();
        cells.push(columns.iter().map(cell).collect());
    }
    print(&table(&cells));
    Ok(())
}

/// Prints the results of `inspect`: each by `--format`, or all as a JSON array.
pub(crate) fn inspected(args: &Args, found: Vec<Value>) -> Result<()> {
    match args.get("format") {
        Some(format) => {
            let template = Template::parse(format)?;
            for value in &found {
                line(&template.fill(value)?);
            }
        }
        None => print(&format!("{}\n", pretty(&Value::Array(found))?)),
    }
    Ok(())
}

/// Left-aligned columns, three spaces apart, as in Docker.
pub(crate) fn table(cells: &[Vec<String>]) -> String {
    let columns = cells.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        cells.iter().filter_map(|row| Some(row.get(column)?.chars().count())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in cells {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            line.push_str(&format!("{cell:<width$}   ", width = widths[column]));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

pub(crate) fn pretty(value: &Value) -> Result<String> {
    serde_json::to_string_pretty(value).map_err(|e| Failure::new(ErrorKind::Invalid, e.to_string()))
}

/// A size in decimal units with up to three digits, as in Docker: `7.8MB`.
pub(crate) fn size(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut unit = 0;
    let mut scaled = bytes;
    while scaled >= 1000 && unit < units.len() - 1 {
        scaled /= 1000;
        unit += 1;
    }
    if unit == 0 {
        return format!("{bytes}B");
    }
    let divisor = 1000_u64.pow(u32::try_from(unit).unwrap_or_default());
    let (whole, rest) = (bytes / divisor, bytes % divisor);
    match whole {
        100.. => format!("{whole}{}", units[unit]),
        10.. => format!("{whole}.{}{}", rest * 10 / divisor, units[unit]),
        _ => format!("{whole}.{:02}{}", rest * 100 / divisor, units[unit]),
    }
}

/// The time since then, in one unit: `3 weeks ago`.
pub(crate) fn ago(then: Option<i64>) -> String {
    if then.is_none() { "N/A".to_owned() } else { format!("{} ago", since(then)) }
}

/// A duration in one unit.
pub(crate) fn since(then: Option<i64>) -> String {
    let Some(then) = then else { return "N/A".to_owned() };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX).saturating_sub(then).max(0);
    duration(seconds)
}

fn duration(seconds: i64) -> String {
    let (minute, hour, day) = (60, 3600, 86_400);
    match seconds {
        0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        s if s < minute => format!("{s} seconds"),
        s if s < 2 * minute => "About a minute".to_owned(),
        s if s < hour => format!("{} minutes", s / minute),
        s if s < 2 * hour => "About an hour".to_owned(),
        s if s < 2 * day => format!("{} hours", s / hour),
        s if s < 14 * day => format!("{} days", s / day),
        s if s < 60 * day => format!("{} weeks", s / day / 7),
        s if s < 730 * day => format!("{} months", s / day / 30),
        s => format!("{} years", s / day / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_read_as_dockers() {
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1.00kB"),
            (7_830_000, "7.83MB"),
            (78_300_000, "78.3MB"),
            (123_456_789, "123MB"),
            (1_040_000_000, "1.04GB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        for (seconds, text) in [
            (30, "30 seconds"),
            (90, "About a minute"),
            (7300, "2 hours"),
            (86_400 * 20, "2 weeks"),
            (86_400 * 800, "2 years"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn columns_line_up() {
        let cells = [["A", "B"], ["long cell", "x"], ["", "y"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(table(&cells), "A           B\nlong cell   x\n            y\n");
    }
}
