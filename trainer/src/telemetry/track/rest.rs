//! The calls of MLflow's REST API 2.0 that a run needs.
//!
//! Source: <https://mlflow.org/docs/latest/rest-api.html>. A batch has at most 1000 metrics, 100 parameters and 100 tags.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::failure::Failure;
use super::http::Http;
use super::points::Point;
use super::state::Status;

/// The most metrics of a request.
pub const METRICS_PER_BATCH: usize = 1000;
/// The most parameters, or tags, of a request.
pub const PARAMS_PER_BATCH: usize = 100;
/// Values of a metric's history per request.
const HISTORY_PAGE: &str = "5000";

/// A run as the server has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteRun {
    /// Its id.
    pub id: String,
    /// The id of its experiment.
    pub experiment: String,
    /// Its status.
    pub status: String,
    /// Whether someone deleted it.
    pub is_deleted: bool,
    /// Where its artifacts are.
    pub artifact_uri: String,
    /// The last step of each metric.
    pub last_steps: BTreeMap<String, u64>,
    /// Its parameters.
    pub params: BTreeMap<String, String>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// Metrics, parameters and tags of one request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Batch<'a> {
    /// At most [`METRICS_PER_BATCH`].
    pub metrics: &'a [Point],
    /// At most [`PARAMS_PER_BATCH`].
    pub params: &'a [(String, String)],
    /// At most [`PARAMS_PER_BATCH`].
    pub tags: &'a [(String, String)],
}

/// An MLflow server.
pub struct Server(pub Http);

impl Server {
    /// The id of an experiment, which is created if there is none of this name.
    pub fn experiment(&self, name: &str) -> Result<String, Failure> {
        if let Some(id) = self.existing_experiment(name)? {
            return Ok(id);
        }
        match self.0.post(&api("experiments/create"), &json!({"name": name})) {
            Ok(answer) => text(&answer["experiment_id"], "experiment_id"),
            // Another run may have been faster.
            Err(failure) => self.existing_experiment(name)?.ok_or(failure),
        }
    }

    fn existing_experiment(&self, name: &str) -> Result<Option<String>, Failure> {
        match self.0.get(&api("experiments/get-by-name"), &[("experiment_name", name)]) {
            Ok(answer) if answer["experiment"]["lifecycle_stage"] == "deleted" => Err(Failure::refused(format!(
                "the experiment {name} was deleted; restore it in MLflow, or set another spec.track.mlflow.experiment"
            ))),
            Ok(answer) => text(&answer["experiment"]["experiment_id"], "experiment_id").map(Some),
            Err(failure) => none_if_missing(failure),
        }
    }

    /// A run by its id; `None` if the server has none.
    pub fn run(&self, id: &str) -> Result<Option<RemoteRun>, Failure> {
        match self.0.get(&api("runs/get"), &[("run_id", id)]) {
            Ok(answer) => RemoteRun::read(&answer["run"]).map(Some),
            Err(failure) => none_if_missing(failure),
        }
    }

    /// The run of an experiment that has a tag; `None` if there is none.
    pub fn run_with_tag(&self, experiment: &str, tag: &str, value: &str) -> Result<Option<RemoteRun>, Failure> {
        let filter = format!("tags.`{tag}` = '{value}'");
        let search =
            json!({"experiment_ids": [experiment], "filter": filter, "max_results": 1, "run_view_type": "ALL"});
        let answer = self.0.post(&api("runs/search"), &search)?;
        answer["runs"].get(0).map(RemoteRun::read).transpose()
    }

    /// Creates a run that is running.
    pub fn create_run(
        &self,
        experiment: &str,
        name: &str,
        started: i64,
        tags: &[(String, String)],
    ) -> Result<RemoteRun, Failure> {
        let run = json!({"experiment_id": experiment, "run_name": name, "start_time": started, "tags": pairs(tags)});
        RemoteRun::read(&self.0.post(&api("runs/create"), &run)?["run"])
    }

    /// Sets a run's status, and when it ended.
    pub fn update(&self, run: &str, status: Status, ended: Option<i64>) -> Result<(), Failure> {
        let mut update = json!({"run_id": run, "status": status});
        if let Some(time) = ended {
            update["end_time"] = json!(time);
        }
        self.0.post(&api("runs/update"), &update).map(drop)
    }

    /// Removes a tag that the run has.
    pub fn delete_tag(&self, run: &str, tag: &str) -> Result<(), Failure> {
        self.0.post(&api("runs/delete-tag"), &json!({"run_id": run, "key": tag})).map(drop)
    }

    /// Logs metrics, parameters and tags.
    pub fn log(&self, run: &str, batch: Batch) -> Result<(), Failure> {
        let metric = |point: &Point| {
            // JSON has no NaN; protobuf's has the text.
            let value = if point.value.is_nan() { json!("NaN") } else { json!(point.value) };
            json!({"key": point.key, "value": value, "timestamp": point.timestamp, "step": point.step})
        };
        let body = json!({
            "run_id": run,
            "metrics": batch.metrics.iter().map(metric).collect::<Vec<_>>(),
            "params": pairs(batch.params),
            "tags": pairs(batch.tags),
        });
        self.0.post(&api("runs/log-batch"), &body).map(drop)
    }

    /// All values of a metric, with their steps.
    pub fn history(&self, run: &str, key: &str) -> Result<Vec<(u64, f64)>, Failure> {
        let (mut values, mut page) = (Vec::new(), String::new());
        loop {
            let mut query = vec![("run_id", run), ("metric_key", key), ("max_results", HISTORY_PAGE)];
            if !page.is_empty() {
                query.push(("page_token", page.as_str()));
            }
            let answer = self.0.get(&api("metrics/get-history"), &query)?;
            for metric in answer["metrics"].as_array().into_iter().flatten() {
                values.extend(integer(&metric["step"]).zip(number(&metric["value"])));
            }
            match answer["next_page_token"].as_str() {
                Some(next) if !next.is_empty() && next != page => page = next.to_owned(),
                _ => return Ok(values),
            }
        }
    }

    /// Stores a file under the artifacts of a run that the server proxies, at a path of [`proxied_path`].
    pub fn put_artifact(&self, folder: &str, name: &str, bytes: Vec<u8>) -> Result<(), Failure> {
        self.0.put(&format!("api/2.0/mlflow-artifacts/artifacts/{folder}/{name}"), bytes)
    }
}

fn api(call: &str) -> String {
    format!("api/2.0/mlflow/{call}")
}

/// The folder of a run's artifacts behind the server's proxy; `None` if the server does not proxy them, as for
/// `s3://bucket/1/ab/artifacts`.
pub fn proxied_path(artifact_uri: &str) -> Option<&str> {
    let path = artifact_uri.strip_prefix("mlflow-artifacts:")?;
    let path = match path.strip_prefix("//") {
        Some(rest) => rest.split_once('/').map_or("", |(_, path)| path),
        None => path,
    };
    Some(path.trim_matches('/'))
}

impl RemoteRun {
    fn read(run: &Value) -> Result<Self, Failure> {
        let info = &run["info"];
        let field = |name: &str| info[name].as_str().unwrap_or_default().to_owned();
        let texts = |list: &Value| {
            let pair = |entry: &Value| {
                Some((entry["key"].as_str()?.to_owned(), entry["value"].as_str().unwrap_or_default().to_owned()))
            };
            list.as_array().into_iter().flatten().filter_map(pair).collect::<BTreeMap<_, _>>()
        };
        let last = |metric: &Value| Some((metric["key"].as_str()?.to_owned(), integer(&metric["step"])?));
        let data = &run["data"];
        Ok(Self {
            id: text(&info["run_id"], "run_id")?,
            experiment: text(&info["experiment_id"], "experiment_id")?,
            status: field("status"),
            is_deleted: info["lifecycle_stage"] == "deleted",
            artifact_uri: field("artifact_uri"),
            last_steps: data["metrics"].as_array().into_iter().flatten().filter_map(last).collect(),
            params: texts(&data["params"]),
            tags: texts(&data["tags"]),
        })
    }
}

fn pairs(list: &[(String, String)]) -> Vec<Value> {
    list.iter().map(|(key, value)| json!({"key": key, "value": value})).collect()
}

fn none_if_missing<T>(failure: Failure) -> Result<Option<T>, Failure> {
    match failure {
        Failure::Refused { code, .. } if code == "RESOURCE_DOES_NOT_EXIST" => Ok(None),
        other => Err(other),
    }
}

fn text(value: &Value, name: &str) -> Result<String, Failure> {
    value.as_str().map(str::to_owned).ok_or_else(|| {
        Failure::refused(format!("the answer has no {name}, so this is no MLflow server; check spec.track.mlflow.uri"))
    })
}

/// Protobuf's JSON writes 64-bit integers as text, MLflow as numbers.
fn integer(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// A number; NaN and infinity are text.
fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn artifacts_behind_the_proxy_have_a_path() {
        assert_eq!(proxied_path("mlflow-artifacts:/1/ab/artifacts"), Some("1/ab/artifacts"));
        assert_eq!(proxied_path("mlflow-artifacts://host:5000/1/ab/artifacts"), Some("1/ab/artifacts"));
        for other in ["s3://bucket/1/ab/artifacts", "/srv/mlruns/1", "file:///srv", "dbfs:/x"] {
            assert_eq!(proxied_path(other), None, "{other}");
        }
    }

    #[test]
    fn run_of_an_answer_is_read_with_numbers_as_text_too() {
        let answer = json!({
            "info": {"run_id": "a", "experiment_id": "1", "status": "RUNNING", "lifecycle_stage": "active",
                "artifact_uri": "mlflow-artifacts:/1/a/artifacts"},
            "data": {"metrics": [{"key": "x", "step": "7", "value": "NaN"}, {"key": "y", "step": 0}],
                "params": [{"key": "p", "value": "1"}], "tags": [{"key": "t", "value": ""}]},
        });
        let run = RemoteRun::read(&answer).unwrap();
        assert_eq!(run.last_steps, [("x".to_owned(), 7), ("y".to_owned(), 0)].into());
        assert_eq!((run.params["p"].as_str(), run.tags["t"].as_str(), run.is_deleted), ("1", "", false));
        let failure = RemoteRun::read(&json!({"other": 1})).unwrap_err();
        assert!(failure.message().contains("no MLflow server"), "{failure:?}");
        assert!(number(&json!("NaN")).is_some_and(f64::is_nan) && number(&json!("Infinity")) == Some(f64::INFINITY));
    }
}
