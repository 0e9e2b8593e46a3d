//! Names of tensors in other programs' files.

/// The naming scheme of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// SimSiam's reference and our checkpoints: `module.encoder.…` and `module.predictor.…`, or without `module.`.
    SimSiam,
    /// MoCo: `module.encoder_q.…`; the momentum encoder, the queue and the head are ignored.
    Moco,
    /// A classifier's backbone: torchvision, timm, the reference's linear checkpoints (`module.…`).
    Classifier,
    /// Detectron2's: `stem.conv1.…`, `res2.0.…`.
    Detectron2,
}

impl Naming {
    /// Recognises the scheme of a file with these names.
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let mut found = None;
        for name in names {
            let name = bare(name);
            let layout = match name {
                _ if name.starts_with("encoder_q.") => Self::Moco,
                _ if name.starts_with("encoder.") => Self::SimSiam,
                "conv1.weight" => Self::Classifier,
                "stem.conv1.weight" => Self::Detectron2,
                _ => continue,
            };
            found = Some(layout);
        }
        found
    }

    /// Maps a file's name to ours; `None` for a tensor that a SimSiam network does not have.
    pub fn ours(self, name: &str) -> Option<String> {
        let name = bare(name);
        match self {
            Self::SimSiam => (name.starts_with("encoder.") || name.starts_with("predictor.")).then(|| name.to_owned()),
            Self::Moco => backbone(name.strip_prefix("encoder_q.")?),
            Self::Classifier => backbone(name),
            Self::Detectron2 => backbone(&from_detectron2(name)?),
        }
    }
}

/// Returns a name without the prefixes of `DistributedDataParallel` and `torch.compile`.
fn bare(mut name: &str) -> &str {
    while let Some(rest) = name.strip_prefix("module.").or_else(|| name.strip_prefix("_orig_mod.")) {
        name = rest;
    }
    name
}

fn backbone(name: &str) -> Option<String> {
    (!name.starts_with("fc.")).then(|| format!("encoder.{name}"))
}

/// Detectron2's name of torchvision's tensor: `conv1` and `bn1` are the stem, `layer1` to `layer4` are `res2` to `res5`,
/// each norm belongs to its convolution, `downsample` is the `shortcut`.
pub fn to_detectron2(name: &str) -> String {
    let stage = |name: &str| {
        let (number, rest) = name.strip_prefix("layer")?.split_once('.')?;
        Some(format!("res{}.{rest}", number.parse::<u32>().ok()? + 1))
    };
    let name = stage(name).unwrap_or_else(|| format!("stem.{name}"));
    let name = name.replace("downsample.0.", "shortcut.").replace("downsample.1.", "shortcut.norm.");
    (1..=3).fold(name, |name, i| name.replace(&format!(".bn{i}."), &format!(".conv{i}.norm.")))
}

fn from_detectron2(name: &str) -> Option<String> {
    let name = match name.strip_prefix("stem.") {
        Some(rest) => rest.to_owned(),
        None => {
            let (number, rest) = name.strip_prefix("res")?.split_once('.')?;
            format!("layer{}.{rest}", number.parse::<u32>().ok()?.checked_sub(1)?)
        }
    };
    let name = (1..=3).fold(name, |name, i| name.replace(&format!("conv{i}.norm."), &format!("bn{i}.")));
    Some(name.replace("shortcut.norm.", "downsample.1.").replace("shortcut.", "downsample.0."))
}

/// Sorts names as PyTorch registers the layers of a ResNet with SimSiam's heads.
pub fn order(name: &str) -> Vec<u32> {
    name.split('.').map(rank).collect()
}

fn rank(part: &str) -> u32 {
    let numbered = |prefix: &str| part.strip_prefix(prefix)?.parse::<u32>().ok();
    match part {
        "encoder" | "weight" => 0,
        "predictor" | "bias" => 1,
        "running_mean" => 2,
        "running_var" => 3,
        "num_batches_tracked" => 4,
        "downsample" => 1000,
        "fc" => 1001,
        _ => {
            let conv = numbered("conv").map(|n| n.saturating_mul(2));
            let norm = numbered("bn").map(|n| n.saturating_mul(2).saturating_add(1));
            let layer = numbered("layer").map(|n| n.saturating_add(100));
            conv.or(norm).or(layer).or_else(|| part.parse().ok()).unwrap_or(u32::MAX)
        }
    }
}

/// Returns whether the name is a parameter's (trained or frozen) rather than a buffer's.
pub fn is_parameter(name: &str) -> bool {
    name.ends_with(".weight") || name.ends_with(".bias")
}

/// Returns whether the name is a batch norm's counter, which files of older and other programs lack.
pub fn is_counter(name: &str) -> bool {
    name.ends_with(".num_batches_tracked")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_each_scheme_map_to_ours() {
        for (layout, theirs, ours) in [
            (Naming::SimSiam, "module.encoder.fc.3.weight", Some("encoder.fc.3.weight")),
            (Naming::SimSiam, "predictor.0.weight", Some("predictor.0.weight")),
            (Naming::SimSiam, "_orig_mod.module.encoder.conv1.weight", Some("encoder.conv1.weight")),
            (Naming::SimSiam, "module._orig_mod.encoder.conv1.weight", Some("encoder.conv1.weight")),
            (Naming::Moco, "module.encoder_q.layer1.0.bn1.bias", Some("encoder.layer1.0.bn1.bias")),
            (Naming::Moco, "module.encoder_q.fc.0.weight", None),
            (Naming::Moco, "module.encoder_k.conv1.weight", None),
            (Naming::Moco, "module.queue", None),
            (Naming::Classifier, "module.bn1.weight", Some("encoder.bn1.weight")),
            (Naming::Classifier, "fc.weight", None),
            (Naming::Detectron2, "res5.2.conv3.norm.bias", Some("encoder.layer4.2.bn3.bias")),
            (Naming::Detectron2, "roi_heads.box_predictor.weight", None),
        ] {
            assert_eq!(layout.ours(theirs).as_deref(), ours, "{theirs}");
            // The momentum encoder alone does not make a file MoCo's.
            let recognised = theirs.contains("encoder.") || theirs.contains("encoder_q.");
            assert_eq!(Naming::of([theirs, "x"]).is_some(), recognised, "{theirs}");
        }
        assert_eq!(Naming::of(["fc.bias", "module.conv1.weight"]), Some(Naming::Classifier));
        assert_eq!(Naming::of(["stem.conv1.weight"]), Some(Naming::Detectron2));
    }

    #[test]
    fn detectron2_names_survive_a_round_trip() {
        for (torchvision, detectron2) in [
            ("conv1.weight", "stem.conv1.weight"),
            ("bn1.running_var", "stem.conv1.norm.running_var"),
            ("layer1.0.conv1.weight", "res2.0.conv1.weight"),
            ("layer1.0.bn2.bias", "res2.0.conv2.norm.bias"),
            ("layer4.2.bn3.weight", "res5.2.conv3.norm.weight"),
            ("layer2.0.downsample.0.weight", "res3.0.shortcut.weight"),
            ("layer2.0.downsample.1.running_mean", "res3.0.shortcut.norm.running_mean"),
        ] {
            assert_eq!(to_detectron2(torchvision), detectron2);
            assert_eq!(from_detectron2(detectron2).as_deref(), Some(torchvision));
        }
    }
}
