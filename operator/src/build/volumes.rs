//! The volumes of a pod, and where they are mounted.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, EmptyDirVolumeSource, HostPathVolumeSource, KeyToPath, PersistentVolumeClaimVolumeSource,
    SecretVolumeSource, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use simsiam_contract::names::CACHE_FOLDER;

use crate::api::{CacheVolume, ValidatedRun, Workers};
use crate::names;

/// Where the run file is mounted.
pub const RUN_FOLDER: &str = "/etc/simsiam";
/// Where persistent volume claims are mounted, each in a folder of its name.
pub const CLAIMS: &str = "/mnt/claims";
/// The certificate authorities of `workers.caBundle`.
pub const CA_FILE: &str = "/etc/simsiam-ca/ca.crt";
const CA_FOLDER: &str = "/etc/simsiam-ca";
const CA_KEY: &str = "ca.crt";

/// The claims in `pvc://` addresses of the recipe.
pub fn claims(run: &ValidatedRun) -> BTreeSet<String> {
    let recipe = &run.recipe;
    let probe = recipe.dataset.probe.as_ref();
    let addresses = [
        Some(&recipe.dataset.train),
        recipe.dataset.val.as_ref(),
        probe.map(|probe| &probe.train),
        probe.map(|probe| &probe.val),
        Some(&recipe.output.uri),
    ];
    addresses
        .into_iter()
        .flatten()
        .chain(recipe.weights.as_ref())
        .filter_map(|address| address.strip_prefix("pvc://"))
        .map(|rest| rest.split('/').next().unwrap_or(rest).to_owned())
        .collect()
}

/// The volumes of a pod.
pub fn volumes(run: &ValidatedRun, claims: &BTreeSet<String>) -> Vec<Volume> {
    let volume = |name: &str| Volume { name: name.to_owned(), ..Volume::default() };
    let empty = |medium: Option<&str>, limit: Option<&str>| {
        Some(EmptyDirVolumeSource {
            medium: medium.map(str::to_owned),
            size_limit: limit.map(|limit| Quantity(limit.to_owned())),
        })
    };
    let claim = |name: &str| Some(PersistentVolumeClaimVolumeSource { claim_name: name.to_owned(), read_only: None });
    let mut cache = volume("cache");
    match &run.cache_volume {
        CacheVolume { host_path: Some(path), .. } => {
            cache.host_path =
                Some(HostPathVolumeSource { path: path.clone(), type_: Some("DirectoryOrCreate".into()) });
        }
        CacheVolume { persistent_volume_claim: Some(name), .. } => cache.persistent_volume_claim = claim(name),
        // The trainer enforces the size limit; a limit of the volume would evict the pod.
        CacheVolume { .. } => cache.empty_dir = empty(None, None),
    }
    let mut volumes = vec![
        Volume {
            config_map: Some(ConfigMapVolumeSource {
                name: names::config_map(run.name(), run.document()),
                ..ConfigMapVolumeSource::default()
            }),
            ..volume("run")
        },
        cache,
        Volume { empty_dir: empty(None, None), ..volume("tmp") },
        Volume { empty_dir: empty(Some("Memory"), Some(&run.cluster.workers.shm_size)), ..volume("shm") },
    ];
    volumes.extend(
        claims
            .iter()
            .enumerate()
            .map(|(i, name)| Volume { persistent_volume_claim: claim(name), ..volume(&format!("claim-{i}")) }),
    );
    let workers = &run.cluster.workers;
    volumes.extend(workers.ca_bundle.as_ref().map(|bundle| Volume {
        config_map: Some(ConfigMapVolumeSource {
            name: bundle.config_map.clone(),
            items: Some(vec![KeyToPath { key: bundle.key.clone(), path: CA_KEY.into(), mode: None }]),
            ..ConfigMapVolumeSource::default()
        }),
        ..volume("ca")
    }));
    volumes.extend(workers.volumes.iter().enumerate().map(|(i, wanted)| {
        Volume {
            config_map: wanted
                .config_map
                .as_ref()
                .map(|name| ConfigMapVolumeSource { name: name.clone(), ..ConfigMapVolumeSource::default() }),
            secret: wanted
                .secret
                .as_ref()
                .map(|name| SecretVolumeSource { secret_name: Some(name.clone()), ..SecretVolumeSource::default() }),
            persistent_volume_claim: wanted.persistent_volume_claim.as_deref().and_then(claim),
            host_path: wanted.host_path.as_ref().map(|path| HostPathVolumeSource { path: path.clone(), type_: None }),
            empty_dir: wanted.empty_dir.as_ref().and_then(|dir| empty(None, dir.size_limit.as_deref())),
            ..volume(&format!("volume-{i}"))
        }
    }));
    volumes
}

/// Where the volumes are mounted in the trainer's container.
pub fn mounts(workers: &Workers, claims: &BTreeSet<String>) -> Vec<VolumeMount> {
    let mount = |name: &str, path: &str| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        ..VolumeMount::default()
    };
    let mut mounts = vec![
        VolumeMount { read_only: Some(true), ..mount("run", RUN_FOLDER) },
        mount("cache", CACHE_FOLDER),
        mount("tmp", "/tmp"),
        mount("shm", "/dev/shm"),
    ];
    mounts
        .extend(claims.iter().enumerate().map(|(i, claim)| mount(&format!("claim-{i}"), &format!("{CLAIMS}/{claim}"))));
    let ca = workers.ca_bundle.as_ref();
    mounts.extend(ca.map(|_| VolumeMount { read_only: Some(true), ..mount("ca", CA_FOLDER) }));
    mounts.extend(workers.volumes.iter().enumerate().map(|(i, wanted)| VolumeMount {
        sub_path: wanted.sub_path.clone(),
        read_only: wanted.read_only.then_some(true),
        ..mount(&format!("volume-{i}"), &wanted.mount_path)
    }));
    mounts
}
