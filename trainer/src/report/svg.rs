//! Charts as inline SVG: axes, units, a legend, and the values that the page's script shows.

use std::fmt::Write;

use super::escape::escape;

/// A line chart.
#[derive(Clone, Debug, Default)]
pub struct Chart {
    /// Its title.
    pub title: String,
    /// What it shows and how to read it.
    pub note: String,
    /// Label of the horizontal axis.
    pub x: String,
    /// Label of the vertical axis, with the unit.
    pub y: String,
    /// Whether the vertical axis starts at 0.
    pub from_zero: bool,
    /// Its lines.
    pub series: Vec<Series>,
}

/// One line of a chart.
#[derive(Clone, Debug)]
pub struct Series {
    name: String,
    points: Vec<(f64, f64)>,
    reference: bool,
}

impl Series {
    /// A line of measured values. Values that are not finite are left out.
    pub fn line(name: &str, mut points: Vec<(f64, f64)>) -> Self {
        points.retain(|(x, y)| x.is_finite() && y.is_finite());
        Self { name: name.to_owned(), points: thinned(points), reference: false }
    }

    /// A reference line, drawn dashed.
    pub fn reference(name: &str, points: Vec<(f64, f64)>) -> Self {
        Self { reference: true, ..Self::line(name, points) }
    }
}

/// Maximum number of points of a line.
const MOST_POINTS: usize = 600;

/// At most [`MOST_POINTS`]: of each group of neighbours the smallest and the largest, so that peaks are kept.
fn thinned(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    if points.len() <= MOST_POINTS {
        return points;
    }
    let chunk = points.len().div_ceil(MOST_POINTS / 2);
    let mut kept = Vec::new();
    for run in points.chunks(chunk) {
        let by_value = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let ends = [run.iter().min_by(by_value), run.iter().max_by(by_value)];
        let mut ends: Vec<(f64, f64)> = ends.into_iter().flatten().copied().collect();
        ends.sort_by(|a, b| a.0.total_cmp(&b.0));
        ends.dedup();
        kept.extend(ends);
    }
    kept
}

const WIDTH: f64 = 440.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 46.0;

/// The mapping from values to pixels.
struct Scale {
    from: f64,
    to: f64,
    at: f64,
    length: f64,
}

impl Scale {
    fn px(&self, value: f64) -> f64 {
        self.at + (value - self.from) / (self.to - self.from) * self.length
    }
}

/// About five round numbers from at most `from` to at least `to`.
fn ticks(from: f64, to: f64) -> Vec<f64> {
    let span = if to > from { to - from } else { to.abs().max(1.0) };
    let raw = span / 4.0;
    let power = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].iter().map(|m| m * power).find(|s| *s >= raw * 0.999).unwrap_or(raw);
    let first = (from / step).floor() as i64;
    let last = ((to / step).ceil() as i64).max(first + 1);
    (first..=last).map(|i| i as f64 * step).collect()
}

/// Formats a number for readers.
pub fn number(value: f64) -> String {
    let text = match value.abs() {
        0.0 => return "0".into(),
        a if a >= 1000.0 => format!("{value:.0}"),
        a if a >= 100.0 => format!("{value:.1}"),
        a if a >= 1.0 => format!("{value:.2}"),
        a if a >= 0.001 => format!("{value:.4}"),
        _ => return format!("{value:.2e}"),
    };
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    text.replace('-', "−")
}

/// Renders the chart as a `<figure>`; a chart without points is a line of text.
pub fn chart(chart: &Chart) -> String {
    let mut html = format!("<figure class=\"chart\"><figcaption><h3>{}</h3></figcaption>", escape(&chart.title));
    let points = || chart.series.iter().flat_map(|s| &s.points);
    if points().next().is_none() {
        let _ = write!(
            html,
            "<p class=\"missing\">No measurements.</p><p class=\"note\">{}</p></figure>",
            escape(&chart.note)
        );
        return html;
    }
    let _ = write!(html, "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">");
    plot(&mut html, chart);
    let _ = write!(html, "<path class=\"rule\" d=\"M0 {TOP}V{:.0}\"/></svg>", HEIGHT - BOTTOM);
    if chart.series.len() > 1 {
        html.push_str("<ul class=\"legend\">");
        for (series, class) in chart.series.iter().zip(classes(chart)) {
            let _ = write!(html, "<li class=\"{class}\"><span></span>{}</li>", escape(&series.name));
        }
        html.push_str("</ul>");
    }
    let _ = write!(html, "<output></output><p class=\"note\">{}</p></figure>", escape(&chart.note));
    html
}

/// Style of a [`picture`]: the page's, in light colours; a test compares them.
const PICTURE_STYLE: &str = "svg{background:#fff}text{fill:#5b6570;font:13px system-ui,sans-serif}.grid path{stroke:#e6e9ec}\
    polyline{fill:none;stroke:currentColor;stroke-width:2}polyline.reference{stroke-dasharray:6 5}\
    circle,.name{fill:currentColor}.reference{color:#5b6570}.c0{color:#0072b2}.c1{color:#d55e00}.c2{color:#009e73}\
    .c3{color:#cc79a7}.c4{color:#b77900}.c5{color:#3a9bd4}";

/// Renders the chart as an SVG file; `None` for a chart without points.
pub fn picture(chart: &Chart) -> Option<String> {
    chart.series.iter().flat_map(|series| &series.points).next()?;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" viewBox=\"0 0 {WIDTH} {HEIGHT}\">\
         <style>{PICTURE_STYLE}</style>"
    );
    plot(&mut svg, chart);
    if chart.series.len() > 1 {
        for ((series, class), line) in chart.series.iter().zip(classes(chart)).zip(1..) {
            let (x, y) = (WIDTH - RIGHT - 4.0, TOP + 15.0 * f64::from(line));
            let name = escape(&series.name);
            let _ =
                write!(svg, "<text class=\"name {class}\" x=\"{x:.0}\" y=\"{y:.0}\" text-anchor=\"end\">{name}</text>");
        }
    }
    svg.push_str("</svg>\n");
    Some(svg)
}

/// The inside of a chart's SVG element: axes and lines. The chart has points.
fn plot(html: &mut String, chart: &Chart) {
    let points = || chart.series.iter().flat_map(|s| &s.points);
    let least = |of: fn(&(f64, f64)) -> f64| points().map(of).fold(f64::INFINITY, f64::min);
    let most = |of: fn(&(f64, f64)) -> f64| points().map(of).fold(f64::NEG_INFINITY, f64::max);
    let low = if chart.from_zero { least(|p| p.1).min(0.0) } else { least(|p| p.1) };
    let x_ticks = ticks(least(|p| p.0).min(0.0), most(|p| p.0));
    let y_ticks = ticks(low, most(|p| p.1));
    let ends = |ticks: &[f64]| (ticks.first().copied().unwrap_or(0.0), ticks.last().copied().unwrap_or(1.0));
    let ((x_from, _), (y_from, y_to)) = (ends(&x_ticks), ends(&y_ticks));
    // The horizontal axis ends with the data.
    let x_to = most(|p| p.0).max(x_from + 1e-9);
    let x = Scale { from: x_from, to: x_to, at: LEFT, length: WIDTH - LEFT - RIGHT };
    let y = Scale { from: y_from, to: y_to, at: HEIGHT - BOTTOM, length: -(HEIGHT - TOP - BOTTOM) };

    let _ = write!(
        html,
        "<title>{}</title><desc>{}</desc><g class=\"grid\">",
        escape(&chart.title),
        escape(&description(chart)),
    );
    for tick in &y_ticks {
        let at = y.px(*tick);
        let _ = write!(
            html,
            "<path d=\"M{LEFT} {at:.1}H{:.0}\"/><text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 8.0,
            at + 4.5,
            number(*tick),
        );
    }
    for tick in x_ticks.iter().filter(|t| **t <= x_to * 1.0001) {
        let at = x.px(*tick);
        let _ = write!(
            html,
            "<path d=\"M{at:.1} {:.0}v5\"/><text x=\"{at:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{}</text>",
            HEIGHT - BOTTOM,
            HEIGHT - BOTTOM + 19.0,
            number(*tick),
        );
    }
    let middle = TOP + (HEIGHT - TOP - BOTTOM) / 2.0;
    let _ = write!(
        html,
        "</g><g class=\"label\"><text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"middle\">{}</text>\
         <text transform=\"translate(14 {middle:.0}) rotate(-90)\" text-anchor=\"middle\">{}</text></g>",
        LEFT + (WIDTH - LEFT - RIGHT) / 2.0,
        HEIGHT - 6.0,
        escape(&chart.x),
        escape(&chart.y),
    );
    for (series, class) in chart.series.iter().zip(classes(chart)) {
        line(html, series, &class, &x, &y);
    }
}

/// A colour for each line; reference lines have one of their own.
fn classes(chart: &Chart) -> impl Iterator<Item = String> + '_ {
    let mut colour = 0;
    chart.series.iter().map(move |series| {
        if series.reference {
            return "reference".to_owned();
        }
        colour += 1;
        format!("c{}", (colour - 1) % COLOURS)
    })
}

fn line(html: &mut String, series: &Series, class: &str, x: &Scale, y: &Scale) {
    let (mut path, mut values) = (String::new(), String::new());
    for (px, py) in &series.points {
        let _ = write!(path, "{:.1},{:.1} ", x.px(*px), y.px(*py));
        let _ = write!(values, "{},{} ", number(*px), number(*py));
    }
    let _ = write!(
        html,
        "<polyline class=\"{class}\" data-name=\"{}\" data-values=\"{}\" points=\"{}\"/>",
        escape(&series.name),
        values.trim_end(),
        path.trim_end(),
    );
    // A single point has no line, and a few points are worth marking.
    if series.points.len() <= 40 && !series.reference {
        for (px, py) in &series.points {
            let _ = write!(html, "<circle class=\"{class}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\"/>", x.px(*px), y.px(*py));
        }
    }
}

/// Describes the chart in words, for screen readers.
fn description(chart: &Chart) -> String {
    let mut text = format!("{} over {}.", chart.y, chart.x);
    for series in &chart.series {
        if let (Some(first), Some(last)) = (series.points.first(), series.points.last()) {
            let _ = write!(
                text,
                " {}: {} at {} {}, {} at {}.",
                series.name,
                number(first.1),
                chart.x,
                number(first.0),
                number(last.1),
                number(last.0)
            );
        }
    }
    text
}

/// Colours of the style sheet, `c0` and on: Okabe and Ito's, which colour-blind people can distinguish.
pub const COLOURS: usize = 6;
/// Shapes of a scatter plot's points.
const SHAPES: usize = 4;
/// Classes that have a colour and a shape of their own.
pub const MOST_CLASSES: usize = COLOURS * SHAPES;

/// A scatter plot of classes.
#[derive(Clone, Debug, Default)]
pub struct Scatter {
    /// Labels of the two axes.
    pub axes: [String; 2],
    /// The classes' names; empty where there are none.
    pub classes: Vec<String>,
    /// Position, index of the class and name of each point.
    pub points: Vec<(f64, f64, usize, String)>,
}

/// Renders the plot as a `<figure>` with its legend.
pub fn scatter(plot: &Scatter) -> String {
    const SIDE: f64 = 440.0;
    let finite = || plot.points.iter().filter(|p| p.0.is_finite() && p.1.is_finite());
    // The same scale on both axes, so that distances are comparable.
    let reach = finite().map(|p| p.0.abs().max(p.1.abs())).fold(1e-12, f64::max);
    let px = |value: f64| SIDE / 2.0 + value / reach * (SIDE / 2.0 - 24.0);
    let mut html = format!(
        "<figure class=\"scatter\"><svg viewBox=\"0 0 {SIDE} {SIDE}\" role=\"img\"><title>Projection of the features</title>\
         <desc>{} images by their first two principal components, in {} classes.</desc>\
         <g class=\"grid\"><path d=\"M{2} 0V{SIDE}M0 {2}H{SIDE}\"/></g>",
        plot.points.len(),
        plot.classes.len(),
        SIDE / 2.0,
    );
    for (x, y, class, name) in finite() {
        let title = match plot.classes.get(*class) {
            Some(label) => format!("{name} ({label})"),
            None => name.clone(),
        };
        let (shape, x, y) = (class / COLOURS % SHAPES, px(*x), px(-*y));
        let _ = write!(
            html,
            "<path class=\"p c{}\" d=\"{}\"><title>{}</title></path>",
            class % COLOURS,
            mark(shape, x, y),
            escape(&title)
        );
    }
    let _ = write!(
        html,
        "<g class=\"label\"><text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{}</text><text x=\"{:.0}\" y=\"16\">{}</text></g></svg>",
        SIDE - 4.0,
        SIDE / 2.0 - 6.0,
        escape(&plot.axes[0]),
        SIDE / 2.0 + 6.0,
        escape(&plot.axes[1]),
    );
    if !plot.classes.is_empty() {
        html.push_str("<ul class=\"legend\">");
        for (i, class) in plot.classes.iter().enumerate() {
            let _ = write!(
                html,
                "<li><svg viewBox=\"0 0 12 12\" aria-hidden=\"true\"><path class=\"p c{}\" d=\"{}\"/></svg>{}</li>",
                i % COLOURS,
                mark(i / COLOURS % SHAPES, 6.0, 6.0),
                escape(class)
            );
        }
        html.push_str("</ul>");
    }
    html.push_str("<output></output></figure>");
    html
}

/// Circle, square, triangle, diamond.
fn mark(shape: usize, x: f64, y: f64) -> String {
    match shape {
        0 => format!("M{:.1} {y:.1}a3.2 3.2 0 1 0 6.4 0a3.2 3.2 0 1 0-6.4 0z", x - 3.2),
        1 => format!("M{:.1} {:.1}h5.6v5.6h-5.6z", x - 2.8, y - 2.8),
        2 => format!("M{x:.1} {:.1}l3.8 6.6h-7.6z", y - 4.2),
        _ => format!("M{x:.1} {:.1}l4 4l-4 4l-4-4z", y - 4.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picture_has_the_colours_of_the_page_and_the_names_of_its_lines() {
        let page = include_str!("style.css");
        for colour in 0..COLOURS {
            let (_, rest) = page.split_once(&format!("--c{colour}: ")).unwrap();
            let rule = format!(".c{colour}{{color:{}}}", rest.split(';').next().unwrap());
            assert!(PICTURE_STYLE.contains(&rule), "{rule}");
        }
        let lines = vec![
            Series::line("a < b", vec![(0.0, 1.0), (1.0, 0.5)]),
            Series::reference("limit", vec![(0.0, 0.0), (1.0, 0.0)]),
        ];
        let drawn =
            Chart { title: "Loss".into(), y: "loss".into(), x: "epoch".into(), series: lines, ..Chart::default() };
        let svg = picture(&drawn).unwrap();
        assert!(svg.contains("a &lt; b</text>") && svg.contains(">limit</text>"), "{svg}");
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert_eq!(picture(&Chart { series: vec![Series::line("none", Vec::new())], ..drawn }), None);
    }

    #[test]
    fn ticks_are_round_and_enclose_the_range() {
        assert_eq!(ticks(0.0, 100.0), [0.0, 25.0, 50.0, 75.0, 100.0]);
        assert_eq!(ticks(-0.93, -0.02).len(), 5);
        for (from, to) in [(3.0, 3.0), (0.0, 0.0), (-1.0, -1.0), (0.0, 1e-9), (0.0, 1e12)] {
            let ticks = ticks(from, to);
            assert!(ticks.len() < 12 && ticks[0] <= from && ticks[ticks.len() - 1] >= to, "{from} {to} {ticks:?}");
        }
    }

    #[test]
    fn numbers_are_formatted_for_readers() {
        let texts: Vec<_> = [0.0, -0.9213, 1234.5, 0.05, 3.0, 1.5e-5].map(number).into();
        assert_eq!(texts, ["0", "−0.9213", "1234", "0.05", "3", "1.50e-5"]);
    }

    #[test]
    fn values_that_are_not_finite_are_left_out() {
        let points = vec![(0.0, f64::NAN), (1.0, 2.0), (2.0, f64::INFINITY), (3.0, 4.0)];
        let html = chart(&Chart { series: vec![Series::line("a", points)], ..Chart::default() });
        assert!(html.contains("data-values=\"1,2 3,4\"") && !html.contains("NaN") && !html.contains("inf"), "{html}");
        let html = chart(&Chart { series: vec![Series::line("a", vec![(0.0, f64::NAN)])], ..Chart::default() });
        assert!(html.contains("No measurements") && !html.contains("<svg"), "{html}");
    }

    #[test]
    fn thinned_line_keeps_its_peaks() {
        let mut points: Vec<_> = (0..100_000).map(|i| (f64::from(i), 0.0)).collect();
        points[54_321].1 = 9.0;
        let line = Series::line("a", points);
        assert!(line.points.len() <= MOST_POINTS && line.points.contains(&(54_321.0, 9.0)));
        assert!(line.points.is_sorted_by(|a, b| a.0 <= b.0));
    }

    #[test]
    fn names_in_a_scatter_plot_are_escaped() {
        let plot = Scatter {
            classes: vec!["<b>".into()],
            points: vec![(1.0, 1.0, 0, "a\"<script>.jpg".into())],
            ..Scatter::default()
        };
        let html = scatter(&plot);
        assert!(!html.contains("<b>") && !html.contains("<script>") && html.contains("&lt;script&gt;"), "{html}");
    }
}
