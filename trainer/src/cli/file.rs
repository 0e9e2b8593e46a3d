//! `-f run.yaml`, `--mount`, `--set`, and `simsiam validate`.

use std::path::PathBuf;

use simsiam_data::{Probabilities, TwoViews};
use simsiam_recipe::{Augment, RunFile};

use crate::data::datasets::two_views;
use crate::error::Error;

/// Arguments of every command that reads a run file.
#[derive(clap::Args, Clone, Debug)]
pub struct FileArgs {
    /// The run: a SimSiamRun in YAML
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// Local path of a persistent volume claim that the file names; may be repeated
    #[arg(long, value_name = "NAME=/PATH")]
    pub mount: Vec<String>,
    /// Override a field of spec, as in --set pretrain.epochs=10; the value is YAML; may be repeated
    #[arg(long, value_name = "FIELD=VALUE")]
    pub set: Vec<String>,
}

impl FileArgs {
    /// Reads and checks the file and replaces claims by their local paths.
    pub fn load(&self) -> Result<RunFile, Error> {
        let mut run = RunFile::load_with(&self.file, &self.set)?;
        let mounts: Result<Vec<_>, _> = self.mount.iter().map(|m| parse_mount(m)).collect();
        let mounts = mounts?;
        let recipe = &mut run.recipe;
        recipe.dataset.train = mounted("spec.dataset.train", &recipe.dataset.train, &mounts)?;
        if let Some(val) = &recipe.dataset.val {
            recipe.dataset.val = Some(mounted("spec.dataset.val", val, &mounts)?);
        }
        if let Some(probe) = &mut recipe.dataset.probe {
            probe.train = mounted("spec.dataset.probe.train", &probe.train, &mounts)?;
            probe.val = mounted("spec.dataset.probe.val", &probe.val, &mounts)?;
        }
        if let Some(weights) = &recipe.weights {
            recipe.weights = Some(mounted("spec.weights", weights, &mounts)?);
        }
        recipe.output.uri = mounted("spec.output.uri", &recipe.output.uri, &mounts)?;
        Ok(run)
    }

    /// The text of the file.
    pub fn text(&self) -> Result<String, Error> {
        std::fs::read_to_string(&self.file).map_err(Error::io("read", &self.file))
    }
}

/// Parses `--endpoint` by the rules of `output.endpoint`.
pub fn parse_endpoint(text: &str) -> Result<String, String> {
    parse_as("output.endpoint", text)
}

/// Parses `--region` by the rules of `output.region`.
pub fn parse_region(text: &str) -> Result<String, String> {
    parse_as("output.region", text)
}

/// Parses `--image-key` by the rules of `dataset.imageKey`.
pub fn parse_image_key(text: &str) -> Result<String, String> {
    parse_as("dataset.imageKey", text)
}

/// Parses `--image-column` by the rules of `dataset.imageColumn`.
pub fn parse_image_column(text: &str) -> Result<String, String> {
    parse_as("dataset.imageColumn", text)
}

/// Parses `--label-column` by the rules of `dataset.labelColumn`.
pub fn parse_label_column(text: &str) -> Result<String, String> {
    parse_as("dataset.labelColumn", text)
}

/// An option is checked by the rules of the field that it is in a file.
fn parse_as(field: &str, text: &str) -> Result<String, String> {
    simsiam_recipe::check_field(field, &text.into()).map(|()| text.to_owned())
}

fn parse_mount(text: &str) -> Result<(&str, &str), Error> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && path.starts_with('/') => Ok((name, path)),
        _ => Err(Error::Usage(format!("--mount {text}: expected NAME=/PATH, the claim's name and its local path"))),
    }
}

/// `pvc://name/rest` as a path; other addresses unchanged.
fn mounted(field: &str, uri: &str, mounts: &[(&str, &str)]) -> Result<String, Error> {
    let Some(rest) = uri.strip_prefix("pvc://") else { return Ok(uri.to_owned()) };
    let (name, path) = rest.split_once('/').unwrap_or((rest, ""));
    match mounts.iter().find(|(mount, _)| *mount == name) {
        Some((_, root)) => Ok(format!("{}/{path}", root.trim_end_matches('/'))),
        None => Err(Error::config(
            field,
            format!("{uri} names the persistent volume claim {name}; give its local path with --mount {name}=/path"),
        )),
    }
}

/// Runs `simsiam validate`.
pub fn validate(args: &FileArgs) -> Result<(), Error> {
    // Claims need not be mounted for a check.
    let run = RunFile::load_with(&args.file, &args.set)?;
    println!("{}: valid", args.file.display());
    if let Some(p) = &run.recipe.pretrain {
        let peak = p.peak_lr();
        println!(
            "  pretrain: {} ({} features), {} epochs, batch {}, peak learning rate {peak} (base {} × {}/256), weight decay {}",
            p.arch,
            p.feature_width(),
            p.epochs,
            p.batch_size,
            p.lr,
            p.batch_size,
            p.weight_decay,
        );
        println!("  views: {}", views(&p.augment).join("\n    "));
    }
    if run.recipe.knn.is_some() {
        println!("  knn: yes");
    }
    if let Some(l) = &run.recipe.linear {
        let peak = l.peak_lr();
        println!("  linear: {} epochs, batch {}, peak learning rate {peak}", l.epochs, l.batch_size);
    }
    if let Some(f) = &run.recipe.finetune {
        println!("  finetune: {} epochs, batch {}, fraction {}", f.epochs, f.batch_size, f.fraction);
    }
    if let Some(weights) = &run.recipe.weights {
        println!("  weights: {weights}");
    }
    if run.recipe.report.is_some() {
        println!("  report: report.html in the output");
    }
    println!("  output: {}", run.recipe.output.uri);
    Ok(())
}

/// What is cropped, and what is done to each view, by the names of the fields; presets and defaults are filled in.
fn views(augment: &Augment) -> Vec<String> {
    let views = two_views(augment);
    let TwoViews { crop_size: side, min_scale, max_scale, probabilities: [one, two], .. } = &views;
    let preset = augment.preset.map_or_else(String::new, |preset| format!(", preset {}", preset.name()));
    let mut lines = vec![format!("{side} × {side} pixels from {min_scale} to {max_scale} of the image's area{preset}")];
    if one == two {
        lines.push(format!("both: {}", operations(&views, one)));
    } else {
        lines.push(format!("view 1: {}", operations(&views, one)));
        lines.push(format!("view 2: {}", operations(&views, two)));
    }
    lines
}

/// The operations that can happen, in their order.
fn operations(views: &TwoViews, prob: &Probabilities) -> String {
    let TwoViews { brightness, contrast, saturation, hue, blur_sigma: [low, high], solarize_threshold, .. } = views;
    let strengths = format!(" (brightness {brightness}, contrast {contrast}, saturation {saturation}, hue {hue})");
    let all = [
        ("jitterProb", prob.jitter, strengths),
        ("grayscaleProb", prob.grayscale, String::new()),
        ("blurProb", prob.blur, format!(" (sigma {low} to {high})")),
        ("solarizeProb", prob.solarize, format!(" (from {solarize_threshold})")),
        ("flipProb", prob.flip, String::new()),
        ("verticalFlipProb", prob.vertical_flip, String::new()),
        ("quarterTurnProb", prob.quarter_turn, String::new()),
    ];
    let possible = all.iter().filter(|(_, prob, _)| *prob > 0.0);
    let possible: Vec<_> = possible.map(|(name, prob, detail)| format!("{name} {prob}{detail}")).collect();
    if possible.is_empty() { "only cropped".to_owned() } else { possible.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_are_shown_with_what_a_preset_sets() {
        let lines = |augment: &str| {
            let text = format!(
                "apiVersion: simsiam.dev/v1alpha1\nkind: SimSiamRun\nmetadata: {{name: a}}\nspec:\n  \
                 dataset: {{train: ./a}}\n  output: {{uri: ./o}}\n  pretrain: {{augment: {augment}}}\n"
            );
            views(&RunFile::parse(&text, "run.yaml").unwrap().recipe.pretrain.unwrap().augment)
        };
        assert_eq!(
            lines("{preset: microscopy, cropSize: 96}"),
            [
                "96 × 96 pixels from 0.4 to 1 of the image's area, preset microscopy",
                "both: jitterProb 0.8 (brightness 0.4, contrast 0.4, saturation 0.2, hue 0.05), blurProb 0.5 (sigma 0.1 to 1), \
                 flipProb 0.5, quarterTurnProb 0.75",
            ]
        );
        assert_eq!(
            lines(
                "{jitterProb: 0, grayscaleProb: 0, flipProb: 0, blurProb: 1, \
                 secondView: {blurProb: 0, solarizeProb: 0.2, verticalFlipProb: 0.5}}"
            )[1..],
            ["view 1: blurProb 1 (sigma 0.1 to 2)", "view 2: solarizeProb 0.2 (from 128), verticalFlipProb 0.5",]
        );
        let none = "{jitterProb: 0, grayscaleProb: 0, flipProb: 0, blurProb: 0}";
        assert_eq!(lines(none)[1], "both: only cropped");
    }

    #[test]
    fn option_is_checked_by_the_rules_of_its_field() {
        use clap::Parser;
        for (arguments, expected) in [
            (&["data", "verify", "s3://b/x", "--endpoint", "host:9000"][..], "must be http://host:port"),
            (&["data", "stat", "s3://b/x", "--region", "eu west"], "must be letters, digits and -"),
            (&["data", "stat", "x.tar", "--image-key", ".jpg"], "must be an ending without the first dot"),
            (&["data", "stat", "x.tar", "--range", "fixed:9:1"], "two numbers, the smaller first"),
            (&["data", "stat", "x.tar", "--range", "full"], "expected auto, pillow, fixed:LOW:HIGH"),
            (&["data", "stat", "x.tar", "--pages", "last"], "expected first or all"),
            (&["convert", "a", "b", "--format", "pth", "--endpoint", "host:9000"], "must be http://host:port"),
        ] {
            let error = crate::cli::Cli::try_parse_from(["simsiam"].iter().chain(arguments)).err().unwrap().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn mount_of_a_claim_replaces_its_address() {
        let mounts = [("data", "/mnt/data/")];
        assert_eq!(mounted("f", "pvc://data/imagenet/train", &mounts).unwrap(), "/mnt/data/imagenet/train");
        assert_eq!(mounted("f", "s3://b/k", &mounts).unwrap(), "s3://b/k");
        let error = mounted("spec.dataset.train", "pvc://other/x", &mounts).unwrap_err();
        assert_eq!(error.exit_code().code(), 78);
        assert!(error.to_string().contains("--mount other=/path"), "{error}");
        assert!(parse_mount("data=relative").is_err());
    }
}
