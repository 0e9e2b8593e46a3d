//! Looks at the images and the machine of a run and proposes values for its fields.
//!
//! `survey` reads images and describes them, `measure` times the loader and a few training steps, and `facts` is what both
//! found. `rules` concludes from that: pure functions, each with its reason and source. `expected` is what the run as
//! proposed will take, `text` shows everything, and `write` writes the changed run file.

mod expected;
mod facts;
mod measure;
mod rules;
mod survey;
mod text;
mod write;

use std::path::{Path, PathBuf};

use serde::Serialize;
use simsiam_data::storage::local_folder;
use simsiam_recipe::{Recipe, RunFile};

pub use expected::{Expected, ExpectedTime};
pub use facts::{Broken, CopyOf, Facts, Found, Leak, Quantiles, Rates, SetFacts, SparseCrops};
pub use rules::{Change, Proposal};
pub use survey::SurveyOptions;
pub use write::default_path;

use crate::data::datasets::{Datasets, two_views};
use crate::doctor;
use crate::error::Error;
use crate::runtime;
use measure::Limits;

/// What to do beside the proposals.
#[derive(Clone, Debug)]
pub struct AdviseOptions {
    /// Which images are read, and with how many threads.
    pub survey: SurveyOptions,
    /// Whether to time the loader and training steps.
    pub measure: bool,
    /// Where to write the run file with the proposals, if anywhere.
    pub write: Option<PathBuf>,
}

/// A run file and what it says.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Its path.
    pub file: &'a Path,
    /// Its text.
    pub text: &'a str,
    /// Its recipe, with claims replaced by paths.
    pub recipe: &'a Recipe,
}

/// What was found and proposed.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// What was found.
    pub facts: Facts,
    /// What is proposed, in the order of the rules.
    pub proposals: Vec<Proposal>,
    /// What pre-training as proposed takes.
    pub expected: Expected,
    /// The file that was written.
    pub written: Option<PathBuf>,
    /// Whether it has the comments of the original.
    pub kept_comments: bool,
}

impl Report {
    /// The report as text.
    pub fn text(&self) -> String {
        text::text(&self.facts, &self.proposals, &self.expected)
    }
}

/// Surveys, measures, proposes and writes; `progress` receives the set's field, the images read and their total.
///
/// # Errors
/// If the run has no `pretrain`, its images are not RGB or cannot be read, or the file to write exists.
pub fn advise(
    subject: Subject,
    options: &AdviseOptions,
    progress: &mut dyn FnMut(&str, usize, usize),
) -> Result<Report, Error> {
    let recipe = subject.recipe;
    let Some(pretrain) = &recipe.pretrain else {
        return Err(Error::missing("spec.pretrain", "simsiam advise"));
    };
    if let Some(channels) = recipe.dataset.channels.filter(|channels| *channels != 3) {
        let why = format!("simsiam advise looks at RGB images, and these have {channels} channels");
        return Err(Error::config("spec.dataset.channels", why));
    }
    if let Some(path) = &options.write {
        write::check_free(path)?;
    }
    let runtime = runtime::start()?;
    let sets = Datasets::new(recipe, runtime.handle().clone()).originals()?;
    let views = two_views(&pretrain.augment);
    let mut surveys = Vec::new();
    for (field, source) in &sets {
        let mut of_set = |done, of| progress(field, done, of);
        surveys.push((*field, survey::survey(field, &**source, &views, &options.survey, &mut of_set)?));
    }
    let of = |name: &str| surveys.iter().find(|(field, _)| *field == name).map(|(_, survey)| survey);
    let pairs = [
        ("dataset.val", "dataset.train"),
        ("dataset.probe.val", "dataset.train"),
        ("dataset.probe.val", "dataset.probe.train"),
    ];
    let mut facts = Facts {
        sets: surveys.iter().map(|(_, survey)| survey.facts(&views)).collect(),
        leaks: pairs.into_iter().filter_map(|(val, train)| Some(of(val)?.leak(of(train)?))).collect(),
        sibling_val: sibling_val(subject)?,
        machine: doctor::facts(),
        rates: None,
    };
    let (mut proposed, mut proposals) = rules::apply(rules::OF_IMAGES, &facts, recipe)?;
    if let (true, Some(pretrain), Some((_, source)), Some(train)) =
        (options.measure, &proposed.pretrain, sets.into_iter().next(), of("dataset.train"))
    {
        let threads = u32::try_from(facts.machine.cores / facts.ranks()).unwrap_or(1).max(1);
        let free = facts.machine.gpus.first().map_or(facts.machine.free_memory, |gpu| gpu.free_memory);
        // Half of it: the estimate may be off, and a measurement must not end other programs.
        let limits = Limits { threads, ranks: facts.ranks(), memory: 0.5 * free as f64 };
        facts.rates = Some(measure::rates(&proposed, pretrain, source, train.readable(), limits)?);
    }
    let (last, more) = rules::apply(rules::OF_RATES, &facts, &proposed)?;
    proposed = last;
    proposals.extend(more);
    let pretrain = proposed.pretrain.as_ref().unwrap_or(pretrain);
    let expected = expected::expected(&facts, pretrain);
    let mut report = Report { facts, proposals, expected, written: None, kept_comments: true };
    if let Some(path) = &options.write {
        let (text, kept_comments) = write::text(subject.text, subject.file, &report.proposals)?;
        write::write(path, &text)?;
        report.written = Some(path.clone());
        report.kept_comments = kept_comments;
    }
    Ok(report)
}

/// The address of a folder `val` beside the folder `train`, as it is to be written in the file.
fn sibling_val(subject: Subject) -> Result<Option<String>, Error> {
    let here = local_folder(&subject.recipe.dataset.train);
    let exists = here.is_some_and(|train| train.with_file_name("val").is_dir());
    // The file's own address, which a claim may be part of.
    let written = RunFile::parse(subject.text, &subject.file.display().to_string())?.recipe.dataset.train;
    let written = written.trim_end_matches('/');
    Ok(match written.rsplit_once('/') {
        Some((parent, "train")) if exists => Some(format!("{parent}/val")),
        None if exists && written == "train" => Some("val".into()),
        _ => None,
    })
}
