//! Output on stdout: texts in one write(2), tables with aligned columns, JSON with a given indentation.

use crate::failure::Failure;
use nix::errno::Errno;
use serde::Serialize;

/// Writes all of `text` to stdout.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let stdout = std::io::stdout();
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        match nix::unistd::write(&stdout, rest) {
            Ok(written) => rest = &rest[written..],
            Err(Errno::EINTR) => {}
            Err(e) => return Err(Failure::os("print", "write", e)),
        }
    }
    Ok(())
}

/// A value as JSON, indented by `indent`; on one line if that is empty.
pub(crate) fn json(value: &impl Serialize, indent: &str) -> Result<String, Failure> {
    let mut out = Vec::with_capacity(1024);
    let result = if indent.is_empty() {
        value.serialize(&mut serde_json::Serializer::new(&mut out))
    } else {
        let formatter = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
        value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, formatter))
    };
    result.map_err(|e| Failure::new(format!("write JSON: {e}")))?;
    String::from_utf8(out).map_err(|e| Failure::new(format!("write JSON: {e}")))
}

/// Rows in columns of at least 12 characters, three spaces between them; the last column is not padded.
pub(crate) fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count() + 3).max().unwrap_or(0).max(12);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            text.push_str(cell);
            if column + 1 < N {
                text.extend(std::iter::repeat_n(' ', widths[column] - cell.chars().count()));
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_columns_of_at_least_twelve_and_three_spaces_between() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned);
        let text = table(&[
            row(["ID", "PID", "OWNER"]),
            row(["a-long-container", "1", "root"]),
            row(["ä", "2", ""]),
        ]);
        let expected = "ID                 PID         OWNER\na-long-container   1           root\nä                  2           \n";
        assert_eq!(text, expected);
        assert_eq!(table::<3>(&[]), "");
    }

    #[test]
    fn json_is_indented_as_asked_and_keeps_the_order_of_a_struct() {
        #[derive(Serialize)]
        struct Sample {
            z: Vec<i32>,
            a: &'static str,
        }
        let sample = Sample { z: vec![1], a: "x" };
        assert_eq!(json(&sample, "").unwrap(), r#"{"z":[1],"a":"x"}"#);
        assert_eq!(json(&sample, "  ").unwrap(), "{\n  \"z\": [\n    1\n  ],\n  \"a\": \"x\"\n}");
    }
}
