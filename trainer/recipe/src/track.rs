//! Where a run's measurements are sent besides its output.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{rules, schema};

/// The experiment tracker that a run reports to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = schema::plain)]
pub struct Track {
    /// An MLflow tracking server.
    pub mlflow: Mlflow,
}

/// An MLflow tracking server, which gets parameters, metrics and artifacts over its REST API. A server that cannot be
/// reached does not stop the run: what it has not received is sent later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = schema::plain, transform = rules::mlflow)]
pub struct Mlflow {
    /// Address of the server, as `https://host:port`, with a path if it is served under one.
    #[schemars(length(max = 1024))]
    pub uri: String,
    /// Name of the experiment that the run belongs to; it is created if the server has none of that name.
    #[serde(default = "Mlflow::default_experiment")]
    #[schemars(length(max = 250))]
    pub experiment: String,
    /// Name of the Kubernetes Secret with `MLFLOW_TRACKING_USERNAME` and `MLFLOW_TRACKING_PASSWORD`, or with
    /// `MLFLOW_TRACKING_TOKEN`, as environment variables. Local runs read them from the environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub credentials_secret: Option<String>,
}

impl Mlflow {
    fn default_experiment() -> String {
        "simsiam".into()
    }
}
