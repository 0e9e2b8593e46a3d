//! The page: one self-contained HTML document, a pure function of a [`Page`].

use std::fmt::Write;

use super::escape::escape;
use super::health::{Finding, Verdict};
use super::svg::{self, Chart, Scatter};

/// The content of a section, or the reason why it is missing.
pub type Part<T> = Result<T, String>;

/// Everything a page shows.
#[derive(Debug)]
pub struct Page {
    /// The run's name.
    pub run: String,
    /// One line below it.
    pub summary: String,
    /// The results.
    pub figures: Vec<Figure>,
    /// What in them looks healthy and what does not.
    pub findings: Part<Vec<Finding>>,
    /// The curves.
    pub charts: Vec<Chart>,
    /// The classifiers that were trained on the encoder.
    pub classifiers: Vec<ClassifierSection>,
    /// How the pictures show images that are not RGB; empty where they are.
    pub pictures: String,
    /// Training images with their two views.
    pub views: Part<Vec<Views>>,
    /// Validation images with their nearest training images.
    pub neighbours: Part<Neighbours>,
    /// The features in two dimensions.
    pub projection: Part<Projection>,
    /// Every setting with its value, defaults and presets filled in.
    pub settings: Vec<(String, String)>,
    /// The run's file.
    pub yaml: String,
}

/// A result.
#[derive(Debug)]
pub struct Figure {
    /// What was measured.
    pub label: String,
    /// Its value with the unit.
    pub value: String,
    /// A value to compare with, or how it was measured.
    pub detail: String,
}

/// A stage that trained a classifier.
#[derive(Debug)]
pub struct ClassifierSection {
    /// The stage's name.
    pub id: &'static str,
    /// Its heading.
    pub title: &'static str,
    /// What was trained, and on what.
    pub note: String,
    /// Its curves.
    pub charts: Vec<Chart>,
}

/// An image as a `data:` address, and its name.
#[derive(Clone, Debug)]
pub struct Picture {
    /// `data:image/jpeg;base64,…`.
    pub data: String,
    /// The image's name, for captions and screen readers.
    pub name: String,
    /// Its side in pixels.
    pub side: u32,
}

/// An image and the two views that training made of it.
#[derive(Debug)]
pub struct Views {
    /// The image.
    pub original: Picture,
    /// The views.
    pub views: [Picture; 2],
}

/// Nearest neighbours of some images.
#[derive(Debug)]
pub struct Neighbours {
    /// The checkpoint, and the number of images compared with.
    pub note: String,
    /// One row per image.
    pub rows: Vec<NeighbourRow>,
}

/// An image and its nearest neighbours.
#[derive(Debug)]
pub struct NeighbourRow {
    /// The image.
    pub query: Picture,
    /// Its class, where it has one.
    pub class: Option<String>,
    /// The nearest first.
    pub nearest: Vec<Neighbour>,
}

/// A nearest neighbour.
#[derive(Debug)]
pub struct Neighbour {
    /// The image.
    pub picture: Picture,
    /// Its class, where it has one.
    pub class: Option<String>,
    /// Cosine of the angle between the features.
    pub similarity: f64,
}

/// Features in two dimensions.
#[derive(Debug)]
pub struct Projection {
    /// The images, and the share of the variance explained.
    pub note: String,
    /// The plot.
    pub plot: Scatter,
}

/// Renders the document.
pub fn html(page: &Page) -> String {
    let mut html = String::new();
    // The policy enforces that the page loads nothing.
    let _ = write!(
        html,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\">\
         <link rel=\"icon\" href=\"data:,\"><title>{} · SimSiam</title><style>{}</style></head><body><main>",
        escape(&page.run),
        include_str!("style.css"),
    );
    let _ = write!(
        html,
        "<header><p class=\"kind\">SimSiam run</p><h1>{}</h1><p>{}</p>",
        escape(&page.run),
        escape(&page.summary)
    );
    html.push_str("<dl class=\"figures\">");
    for figure in &page.figures {
        let _ = write!(
            html,
            "<div><dt>{}</dt><dd>{}</dd><dd class=\"detail\">{}</dd></div>",
            escape(&figure.label),
            escape(&figure.value),
            escape(&figure.detail)
        );
    }
    html.push_str("</dl></header>");

    let note = "Each figure against its threshold. docs/what-is-normal.md explains the thresholds and shows a published curve.";
    section(&mut html, "health", "What is normal", note, |html| {
        part(html, &page.findings, |html, found| findings(html, found));
    });
    section(&mut html, "curves", "Training", "", |html| {
        charts(html, "charts", &page.charts);
    });
    for classifier in &page.classifiers {
        section(&mut html, classifier.id, classifier.title, &classifier.note, |html| {
            charts(html, "charts small", &classifier.charts);
        });
    }
    let note = "Training images, and the two views of each in the first epoch of training. \
                The network learns to predict the features of one view from the other.";
    section(&mut html, "views", "Augmented views", &format!("{note}{}", page.pictures), |html| {
        part(html, &page.views, |html, rows| views(html, rows))
    });
    let note = page.neighbours.as_ref().map_or_else(|_| String::new(), |n| format!("{}{}", n.note, page.pictures));
    section(&mut html, "neighbours", "Nearest neighbours", &note, |html| {
        part(html, &page.neighbours, |html, n| n.rows.iter().for_each(|r| row(html, r)));
    });
    let note = page.projection.as_ref().map_or("", |p| p.note.as_str());
    section(&mut html, "projection", "Features in two dimensions", note, |html| {
        part(html, &page.projection, |html, p| html.push_str(&svg::scatter(&p.plot)));
    });
    section(&mut html, "settings", "Settings", "All settings, with defaults and presets filled in.", |html| {
        html.push_str("<table><tbody>");
        for (name, value) in &page.settings {
            let _ = write!(html, "<tr><th scope=\"row\">{}</th><td>{}</td></tr>", escape(name), escape(value));
        }
        html.push_str("</tbody></table>");
    });
    section(&mut html, "recipe", "Recipe", "The run file.", |html| {
        let _ = write!(html, "<pre tabindex=\"0\"><code>{}</code></pre>", escape(&page.yaml));
    });
    let _ = writeln!(html, "</main><script>{}</script></body></html>", include_str!("script.js"));
    html
}

fn section(html: &mut String, id: &str, title: &str, note: &str, content: impl FnOnce(&mut String)) {
    let _ = write!(html, "<section id=\"{id}\"><h2>{title}</h2>");
    if !note.is_empty() {
        let _ = write!(html, "<p class=\"note\">{}</p>", escape(note));
    }
    content(html);
    html.push_str("</section>");
}

fn charts(html: &mut String, class: &str, charts: &[Chart]) {
    let _ = write!(html, "<div class=\"{class}\">");
    charts.iter().for_each(|chart| html.push_str(&svg::chart(chart)));
    html.push_str("</div>");
}

/// Renders the content, or the reason why there is none.
fn part<T>(html: &mut String, part: &Part<T>, content: impl FnOnce(&mut String, &T)) {
    match part {
        Ok(found) => content(html, found),
        Err(why) => {
            let _ = write!(html, "<p class=\"missing\">{}</p>", escape(why));
        }
    }
}

/// Renders the findings as a list, those that are not ok first.
fn findings(html: &mut String, findings: &[Finding]) {
    html.push_str("<ul class=\"findings\">");
    for verdict in [Verdict::Wrong, Verdict::Look, Verdict::Ok] {
        for finding in findings.iter().filter(|finding| finding.verdict == verdict) {
            let name = verdict.name();
            let _ = write!(
                html,
                "<li class=\"{name}\"><b>{name}</b><div><h3>{}</h3><p>{}</p>",
                escape(finding.title),
                escape(&finding.says)
            );
            if verdict != Verdict::Ok {
                let _ = write!(html, "<p>{}</p>", escape(finding.advice));
            }
            let _ = write!(html, "<p class=\"note\">Threshold: {}.</p></div></li>", escape(finding.source));
        }
    }
    html.push_str("</ul>");
}

fn picture(html: &mut String, picture: &Picture, caption: &str) {
    // A small image is scaled without smoothing.
    let class = if picture.side < 80 { " class=\"pixels\"" } else { "" };
    let (data, name, side) = (&picture.data, escape(&picture.name), picture.side);
    let _ = write!(
        html,
        "<figure><img{class} src=\"{data}\" alt=\"{name}\" width=\"{side}\" height=\"{side}\">\
         <figcaption>{caption}</figcaption></figure>"
    );
}

fn views(html: &mut String, rows: &[Views]) {
    html.push_str("<div class=\"views\">");
    for row in rows {
        let _ = write!(html, "<div class=\"triple\" title=\"{}\">", escape(&row.original.name));
        picture(html, &row.original, "image");
        picture(html, &row.views[0], "view 1");
        picture(html, &row.views[1], "view 2");
        html.push_str("</div>");
    }
    html.push_str("</div>");
}

fn row(html: &mut String, row: &NeighbourRow) {
    html.push_str("<div class=\"row\">");
    let class = row.class.as_deref().unwrap_or("image");
    picture(html, &row.query, &format!("<b>{}</b>", escape(class)));
    for near in &row.nearest {
        let similarity = svg::number((near.similarity * 1000.0).round() / 1000.0);
        let caption = match (&near.class, &row.class) {
            (Some(class), Some(of)) => {
                let (mark, kind, says) =
                    if class == of { ("✓", "right", "same class") } else { ("✗", "wrong", "other class") };
                format!(
                    "<span class=\"{kind}\"><span role=\"img\" aria-label=\"{says}\">{mark}</span> {}</span><br>{similarity}",
                    escape(class)
                )
            }
            _ => similarity,
        };
        picture(html, &near.picture, &caption);
    }
    html.push_str("</div>");
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVIL: &str = "<img src=x onerror=alert(1)>\"'&";

    fn evil_picture() -> Picture {
        Picture { data: "data:,".into(), name: EVIL.into(), side: 32 }
    }

    fn finding(verdict: Verdict) -> Finding {
        Finding { title: "Loss", verdict, says: EVIL.into(), advice: "Lower it.", source: "the paper" }
    }

    fn page() -> Page {
        let near = Neighbour { picture: evil_picture(), class: Some(EVIL.into()), similarity: f64::NAN };
        let row = NeighbourRow { query: evil_picture(), class: Some(EVIL.into()), nearest: vec![near] };
        Page {
            run: EVIL.into(),
            summary: EVIL.into(),
            figures: vec![Figure { label: EVIL.into(), value: EVIL.into(), detail: EVIL.into() }],
            findings: Ok(vec![finding(Verdict::Ok), finding(Verdict::Wrong)]),
            charts: vec![Chart { title: EVIL.into(), note: EVIL.into(), ..Chart::default() }],
            classifiers: vec![ClassifierSection {
                id: "linear",
                title: "Linear",
                note: EVIL.into(),
                charts: Vec::new(),
            }],
            pictures: EVIL.into(),
            views: Ok(vec![Views { original: evil_picture(), views: [evil_picture(), evil_picture()] }]),
            neighbours: Ok(Neighbours { note: EVIL.into(), rows: vec![row] }),
            projection: Err(EVIL.into()),
            settings: vec![(EVIL.into(), EVIL.into())],
            yaml: EVIL.into(),
        }
    }

    #[test]
    fn text_from_the_run_is_escaped() {
        let html = html(&page());
        assert!(!html.contains("<img src=x") && !html.contains(EVIL));
        assert!(html.matches("&lt;img src=x onerror=alert(1)&gt;&quot;&#39;&amp;").count() >= 16, "{html}");
    }

    #[test]
    fn findings_begin_with_what_is_wrong_and_advise_only_there() {
        let html = html(&page());
        let (wrong, ok) = (html.find("<li class=\"wrong\">").unwrap(), html.find("<li class=\"ok\">").unwrap());
        assert!(wrong < ok, "{html}");
        assert_eq!(html.matches("Lower it.").count(), 1);
    }

    #[test]
    fn missing_section_shows_its_reason() {
        let page = Page {
            views: Err("there are no images".into()),
            neighbours: Err("there is no checkpoint".into()),
            projection: Err("there is no label".into()),
            charts: Vec::new(),
            ..page()
        };
        let html = html(&page);
        for text in ["there are no images", "there is no checkpoint", "there is no label"] {
            assert!(html.contains(&format!("<p class=\"missing\">{text}</p>")), "{text}");
        }
    }

    #[test]
    fn page_refers_to_no_external_resource() {
        let html = html(&page());
        assert!(!html.contains("http://") && !html.contains("https://") && !html.contains("url("));
        assert!(html.contains("default-src 'none'"));
    }
}
