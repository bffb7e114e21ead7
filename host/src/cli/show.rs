//! How things look on a terminal and in a pipe: lines, tables, bars, numbers, and colour only where a person looks.

use std::{
    fmt,
    io::{self, IsTerminal, Write},
    time::Duration,
};

use super::logging;

/// Writes a line to stdout. A reader that went away (`| head`) is no error of ours.
pub(super) fn line(text: fmt::Arguments<'_>) {
    let _ = writeln!(io::stdout().lock(), "{text}");
}

/// Writes a warning to stderr.
pub(super) fn warning(text: impl fmt::Display) {
    warn_line(format_args!("{} {text}", Paint::stderr().yellow("warning:")));
}

/// Writes a line to stderr: behind what was logged, where there is a log.
pub(super) fn warn_line(text: fmt::Arguments<'_>) {
    let line = format!("{text}\n");
    match logging::lines() {
        Some(log) => log.say(line),
        None => drop(io::stderr().lock().write_all(line.as_bytes())),
    }
}

/// `println!` that does not panic when the reader went away.
macro_rules! say {
    () => { $crate::cli::show::line(format_args!("")) };
    ($($arguments:tt)*) => { $crate::cli::show::line(format_args!($($arguments)*)) };
}
pub(super) use say;

/// Colours, or none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint {
    on: bool,
}

impl Paint {
    /// For stdout: on where it is a terminal and `NO_COLOR` is not set.
    pub(super) fn stdout() -> Self {
        Self::when(io::stdout().is_terminal())
    }

    /// For stderr.
    pub(super) fn stderr() -> Self {
        Self::when(io::stderr().is_terminal())
    }

    /// Never.
    #[cfg(test)]
    pub(super) fn off() -> Self {
        Self { on: false }
    }

    fn when(terminal: bool) -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { on: terminal && !refused && !dumb }
    }

    /// Whether escape sequences are written.
    pub(super) fn is_on(self) -> bool {
        self.on
    }

    fn with(self, code: &str, text: impl fmt::Display) -> String {
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }

    pub(super) fn bold(self, text: impl fmt::Display) -> String {
        self.with("1", text)
    }

    pub(super) fn dim(self, text: impl fmt::Display) -> String {
        self.with("2", text)
    }

    pub(super) fn red(self, text: impl fmt::Display) -> String {
        self.with("31", text)
    }

    pub(super) fn green(self, text: impl fmt::Display) -> String {
        self.with("32", text)
    }

    pub(super) fn yellow(self, text: impl fmt::Display) -> String {
        self.with("33", text)
    }

    pub(super) fn cyan(self, text: impl fmt::Display) -> String {
        self.with("36", text)
    }
}

/// Rows under headings, each column as wide as its widest cell.
pub(super) struct Table {
    /// Headings; one that starts with `>` aligns its column to the right.
    head: Vec<String>,
    rows: Vec<Vec<String>>,
    indent: usize,
}

impl Table {
    /// A heading that starts with `>` aligns its column to the right.
    pub(super) fn new(head: &[&str]) -> Self {
        Self { head: head.iter().map(ToString::to_string).collect(), rows: Vec::new(), indent: 0 }
    }

    pub(super) fn indent(mut self, spaces: usize) -> Self {
        self.indent = spaces;
        self
    }

    pub(super) fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// The lines, without a line break at the end. Cells may hold colours, which take no width.
    pub(super) fn render(&self, paint: Paint) -> String {
        let right: Vec<bool> = self.head.iter().map(|head| head.starts_with('>')).collect();
        let head: Vec<String> = self.head.iter().map(|head| paint.dim(head.trim_start_matches('>'))).collect();
        let widths: Vec<usize> = (0..head.len())
            .map(|column| {
                let cells = std::iter::once(&head).chain(&self.rows).filter_map(|row| row.get(column));
                cells.map(|cell| width(cell)).max().unwrap_or(0)
            })
            .collect();
        let lines: Vec<String> = std::iter::once(&head)
            .chain(&self.rows)
            .map(|row| {
                let cells = row.iter().zip(&widths).zip(&right).map(|((cell, &wide), &right)| pad(cell, wide, right));
                let text = cells.collect::<Vec<_>>().join("  ");
                format!("{}{}", " ".repeat(self.indent), text.trim_end())
            })
            .collect();
        lines.join("\n")
    }
}

fn pad(cell: &str, wide: usize, right: bool) -> String {
    let space = " ".repeat(wide.saturating_sub(width(cell)));
    if right { format!("{space}{cell}") } else { format!("{cell}{space}") }
}

/// Columns that a text takes: its characters, escape sequences left out. Everything printed here is narrow.
fn width(text: &str) -> usize {
    let mut columns = 0;
    let mut escaped = false;
    for c in text.chars() {
        match (escaped, c) {
            (false, '\x1b') => escaped = true,
            (false, _) => columns += 1,
            (true, 'm') => escaped = false,
            (true, _) => {}
        }
    }
    columns
}

/// A horizontal bar: `fraction` of `columns`, in eighths of a column.
pub(super) fn bar(fraction: f64, columns: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (fraction.clamp(0.0, 1.0) * columns as f64 * 8.0).round() as usize;
    format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8])
}

/// One character a value, its height the value's share of `top`.
pub(super) fn sparkline(values: impl IntoIterator<Item = f64>, top: f64) -> String {
    const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let height = |value: f64| HEIGHTS[((value / top).clamp(0.0, 1.0) * 7.0).round() as usize];
    values.into_iter().map(|value| if value.is_nan() { ' ' } else { height(value) }).collect()
}

/// `12,345`.
pub(super) fn count(n: impl Into<u64>) -> String {
    let digits = n.into().to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Three significant digits and a unit: `850 ns`, `1.25 ms`, `12.3 s`.
pub(super) fn time(duration: Duration) -> String {
    let ns = duration.as_nanos() as f64;
    let (value, unit) = match ns {
        ns if ns < 1e3 => return format!("{ns:.0} ns"),
        ns if ns < 1e6 => (ns / 1e3, "µs"),
        ns if ns < 1e9 => (ns / 1e6, "ms"),
        ns => (ns / 1e9, "s"),
    };
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.digits$} {unit}")
}

/// `64 B`, `12.3 KiB`, `4.0 MiB`.
pub(super) fn size(bytes: u64) -> String {
    match bytes as f64 {
        b if b < 1024.0 => format!("{bytes} B"),
        b if b < 1_048_576.0 => format!("{:.1} KiB", b / 1024.0),
        b => format!("{:.1} MiB", b / 1_048_576.0),
    }
}

/// `1 route`, `2 routes`.
pub(super) fn plural(n: usize, one: &str) -> String {
    format!("{} {one}{}", count(n as u64), if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_align_whatever_the_colour() {
        for paint in [Paint { on: false }, Paint { on: true }] {
            let mut table = Table::new(&["name", ">n"]).indent(2);
            table.row(["a".to_owned(), paint.red("1")]);
            table.row(["long name", "1,234"]);
            let plain: String = strip(&table.render(paint));
            assert_eq!(plain, "  name           n\n  a              1\n  long name  1,234", "{paint:?}");
        }
    }

    fn strip(text: &str) -> String {
        let mut parts = text.split('\x1b');
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |text, part| text + part.split_once('m').map_or("", |(_, rest)| rest))
    }

    #[test]
    fn numbers() {
        let counts: Vec<_> = [0_u64, 999, 1_000, 1_234_567].map(count).to_vec();
        assert_eq!(counts, ["0", "999", "1,000", "1,234,567"]);
        let times: Vec<_> =
            [7, 1_250, 12_345, 123_456_789, 2_000_000_000].map(|n| time(Duration::from_nanos(n))).to_vec();
        assert_eq!(times, ["7 ns", "1.25 µs", "12.3 µs", "123 ms", "2.00 s"]);
        assert_eq!([size(5), size(1536), size(3 << 20)], ["5 B", "1.5 KiB", "3.0 MiB"]);
        assert_eq!([plural(1, "route"), plural(2, "route")], ["1 route", "2 routes"]);
    }

    #[test]
    fn bars_and_lines() {
        assert_eq!([bar(0.0, 4), bar(0.5, 4), bar(0.53, 4), bar(2.0, 4)], ["", "██", "██▏", "████"]);
        assert_eq!(sparkline([0.0, 0.5, 1.0, f64::NAN], 1.0), "▁▅█ ");
    }
}
