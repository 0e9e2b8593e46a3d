//! Finds a ResNet under another program's prefix: `backbone.` (lightly, solo-learn, MMSelfSup), `model.`, `student.backbone.`
//! and the like, with torchvision's names behind it or with the numbers of an `nn.Sequential` of its layers.

use std::collections::BTreeSet;

/// Where a file's ResNet is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix {
    /// What precedes every name, with the dot.
    text: String,
    /// Layers are numbered, as `nn.Sequential(*resnet.children())` numbers them.
    numbered: bool,
}

/// What a network that is no more than an average of another is called.
const AVERAGES: [&str; 7] = ["momentum", "teacher", "target", "ema", "encoder_k", "key", "avg"];
/// torchvision's names of the layers, by their numbers.
const LAYERS: [&str; 8] = ["conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"];

impl Prefix {
    /// The prefixes of all ResNets among `names`; where some are averages of another (`momentum_backbone.`), without these.
    pub fn all<'a>(names: impl IntoIterator<Item = &'a str> + Clone) -> Vec<Self> {
        let has: BTreeSet<&str> = names.clone().into_iter().collect();
        let there = |prefix: &str, name: &str| has.contains(format!("{prefix}{name}").as_str());
        let found = names.into_iter().filter_map(|name| {
            if let Some(text) = name.strip_suffix("conv1.weight")
                && there(text, "bn1.weight")
                && there(text, "layer1.0.conv1.weight")
            {
                return Some(Self { text: text.to_owned(), numbered: false });
            }
            let text = name.strip_suffix("0.weight")?;
            let is_sequence = there(text, "1.running_mean") && there(text, "4.0.conv1.weight");
            is_sequence.then(|| Self { text: text.to_owned(), numbered: true })
        });
        let found: BTreeSet<Self> = found.collect();
        let trained: Vec<Self> = found.iter().filter(|prefix| !prefix.is_average()).cloned().collect();
        if trained.is_empty() { found.into_iter().collect() } else { trained }
    }

    fn is_average(&self) -> bool {
        let parts = self.text.split(['.', '_']);
        let words: Vec<_> = parts.collect();
        AVERAGES.iter().any(|average| words.contains(average) || average.contains('_') && self.text.contains(average))
    }

    /// The name that torchvision gives a tensor; `None` for those of other parts of the file.
    pub fn torchvision(&self, name: &str) -> Option<String> {
        let rest = name.strip_prefix(&self.text)?;
        if !self.numbered {
            return Some(rest.to_owned());
        }
        let (number, rest) = rest.split_once('.')?;
        let layer = LAYERS.get(number.parse::<usize>().ok()?)?;
        Some(format!("{layer}.{rest}"))
    }

    /// The prefix as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(prefix: &str, numbered: bool) -> Vec<String> {
        let layers = if numbered {
            ["0.weight", "1.running_mean", "4.0.conv1.weight"]
        } else {
            ["conv1.weight", "bn1.weight", "layer1.0.conv1.weight"]
        };
        layers.iter().map(|layer| format!("{prefix}{layer}")).collect()
    }

    fn found(names: &[String]) -> Vec<String> {
        Prefix::all(names.iter().map(String::as_str)).into_iter().map(|prefix| prefix.text).collect()
    }

    #[test]
    fn prefix_of_each_program_is_found() {
        for (program, prefix, numbered, others) in [
            ("lightly", "backbone.", true, &["projection_head.layers.0.weight"][..]),
            (
                "lightly, MoCo",
                "backbone.",
                true,
                &[
                    "backbone_momentum.0.weight",
                    "backbone_momentum.1.running_mean",
                    "backbone_momentum.4.0.conv1.weight",
                ],
            ),
            (
                "solo-learn",
                "backbone.",
                false,
                &[
                    "momentum_backbone.conv1.weight",
                    "momentum_backbone.bn1.weight",
                    "momentum_backbone.layer1.0.conv1.weight",
                ],
            ),
            ("MMSelfSup", "backbone.", false, &["neck.fc0.weight", "head.predictor.fc0.weight"]),
            (
                "BYOL",
                "online_backbone.",
                false,
                &[
                    "target_backbone.conv1.weight",
                    "target_backbone.bn1.weight",
                    "target_backbone.layer1.0.conv1.weight",
                ],
            ),
            ("compiled", "_orig_mod.model.", false, &[]),
        ] {
            let mut all = names(prefix, numbered);
            all.extend(others.iter().map(|name| (*name).to_owned()));
            assert_eq!(found(&all), [prefix], "{program}");
        }
        let two = [names("left.", false), names("right.", false)].concat();
        assert_eq!(found(&two), ["left.", "right."]);
        assert_eq!(found(&names("target_backbone.", false)), ["target_backbone."], "it is the only one");
        assert!(found(&["layer1.0.conv1.weight".into(), "conv1.weight".into()]).is_empty());
    }

    #[test]
    fn numbered_layers_get_torchvisions_names() {
        let numbered = Prefix { text: "backbone.".into(), numbered: true };
        assert_eq!(numbered.torchvision("backbone.0.weight").as_deref(), Some("conv1.weight"));
        assert_eq!(numbered.torchvision("backbone.7.2.bn3.bias").as_deref(), Some("layer4.2.bn3.bias"));
        assert_eq!(numbered.torchvision("backbone.9.weight"), None);
        assert_eq!(numbered.torchvision("head.0.weight"), None);
    }
}
