//! A bar chart as SVG. One file for light and dark pages: nothing is drawn behind it, and each colour stands out from both
//! white and GitHub's dark (a contrast of about 4 to either), so that it depends on no style sheet.

use std::fmt::Write as _;

/// A chart of horizontal bars, each of stacked parts.
pub(super) struct Plot {
    pub(super) title: String,
    /// What the parts are, where there is more than one.
    pub(super) legend: &'static [&'static str],
    pub(super) decimals: usize,
    pub(super) rows: Vec<Row>,
}

/// One bar.
pub(super) struct Row {
    pub(super) name: String,
    /// Drawn in the stronger colour.
    pub(super) own: bool,
    pub(super) parts: Vec<f64>,
}

impl Row {
    fn total(&self) -> f64 {
        self.parts.iter().sum()
    }
}

const WIDTH: f64 = 850.0;
/// Names end here, bars begin.
const LEFT: f64 = 300.0;
/// The longest bar.
const SPAN: f64 = 470.0;
const TOP: f64 = 32.0;
/// Of the legend, where there is one.
const LEGEND: f64 = 26.0;
const ROW: f64 = 26.0;
const BAR: f64 = 17.0;

/// A contrast of 4.35 to white as well as to #0d1117.
const TEXT: &str = "#747b84";
const OWN: &str = "#8b62e0";
const OTHER: &str = "#6f8194";
/// Of the first part, the second, …
const OPACITY: [f64; 2] = [1.0, 0.55];

/// The picture, smallest bar first.
pub(super) fn svg(plot: &Plot) -> String {
    let mut rows: Vec<&Row> = plot.rows.iter().collect();
    rows.sort_by(|a, b| a.total().total_cmp(&b.total()));
    let longest = rows.iter().map(|row| row.total()).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let top = if plot.legend.is_empty() { TOP } else { TOP + LEGEND };
    let height = top + ROW * rows.len() as f64 + 8.0;
    let title = escaped(&plot.title);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         role=\"img\" font-family=\"-apple-system, 'Segoe UI', 'Noto Sans', Helvetica, Arial, sans-serif\" \
         font-size=\"14\" fill=\"{TEXT}\">\n<title>{title}</title>\n\
         <text x=\"8\" y=\"20\" font-size=\"15\" font-weight=\"600\">{title}</text>\n"
    );
    legend(&mut text, plot.legend);
    for (at, row) in rows.iter().enumerate() {
        let y = top + ROW * at as f64;
        bar(&mut text, row, y, SPAN / longest, plot.decimals);
    }
    text.push_str("</svg>\n");
    text
}

fn legend(text: &mut String, parts: &[&str]) {
    for (at, (part, opacity)) in parts.iter().zip(OPACITY).enumerate() {
        let x = LEFT + 110.0 * at as f64;
        let _ = writeln!(
            text,
            "<rect x=\"{x}\" y=\"33\" width=\"12\" height=\"12\" rx=\"2\" fill=\"{OTHER}\" fill-opacity=\"{opacity}\"/>\
             <text x=\"{}\" y=\"44\" font-size=\"13\">{}</text>",
            x + 18.0,
            escaped(part)
        );
    }
}

fn bar(text: &mut String, row: &Row, y: f64, scale: f64, decimals: usize) {
    let (colour, weight) = if row.own { (OWN, "600") } else { (OTHER, "400") };
    let baseline = y + 13.5;
    let _ = writeln!(
        text,
        "<text x=\"{:.1}\" y=\"{baseline:.1}\" text-anchor=\"end\" font-weight=\"{weight}\">{}</text>",
        LEFT - 10.0,
        escaped(&row.name)
    );
    let mut x = LEFT;
    for (part, opacity) in row.parts.iter().zip(OPACITY) {
        // Negative is noise around nothing.
        let width = part.max(0.0) * scale;
        let _ = writeln!(
            text,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BAR}\" fill=\"{colour}\" fill-opacity=\"{opacity}\"/>"
        );
        x += width;
    }
    let _ = writeln!(
        text,
        "<text x=\"{:.1}\" y=\"{baseline:.1}\" font-weight=\"{weight}\">{:.decimals$}</text>",
        x + 8.0,
        row.total()
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_in_order_and_to_scale() {
        let row = |name: &str, own, parts: &[f64]| Row { name: name.to_string(), own, parts: parts.to_vec() };
        let plot = Plot {
            title: "CPU <µs> & more".to_string(),
            legend: &["user", "kernel"],
            decimals: 1,
            rows: vec![row("slow", false, &[30.0, 20.0]), row("own", true, &[5.0, 5.0])],
        };
        let text = svg(&plot);
        assert!(text.starts_with("<svg ") && text.ends_with("</svg>\n"), "{text}");
        assert!(text.contains("<title>CPU &lt;µs&gt; &amp; more</title>"), "{text}");
        assert!(text.find(">own<").unwrap() < text.find(">slow<").unwrap(), "{text}");
        // The longest bar takes the span, a fifth of it a fifth.
        assert!(text.contains("width=\"282.0\"") && text.contains("width=\"188.0\""), "{text}");
        assert_eq!(text.matches("width=\"47.0\"").count(), 2, "{text}");
        assert!(text.contains(">10.0</text>") && text.contains(">50.0</text>"), "{text}");
    }

    #[test]
    fn nothing_is_a_picture_too() {
        let text = svg(&Plot { title: "none".to_string(), legend: &[], decimals: 0, rows: Vec::new() });
        assert!(text.ends_with("</svg>\n") && !text.contains("NaN"), "{text}");
    }
}
