//! A model folder in the layout of the Hugging Face hub, for timm: `model.safetensors`, `config.json` as timm writes it,
//! and a model card with the curves of the run.

use std::fmt::Write;

use serde_json::json;
use simsiam_recipe::{Augment, Pretrain};

use super::architecture::counted;
use super::state_dict::Weights;
use super::write::File;
use crate::error::Error;

/// The folder's name in the export folder.
pub const FOLDER: &str = "huggingface";

/// What the model card says about the run. It names no address of images or output: a card is made to be published.
#[derive(Debug)]
pub struct Card<'a> {
    /// Name of the run.
    pub run: &'a str,
    /// How the backbone was trained and how images are prepared for it.
    pub pretrain: &'a Pretrain,
    /// Number of training images.
    pub samples: u64,
    /// What was measured: label, value and detail.
    pub figures: Vec<[String; 3]>,
    /// Charts: title and SVG.
    pub curves: Vec<(String, String)>,
}

impl Weights {
    /// Returns the files of the folder.
    ///
    /// # Errors
    /// If timm has no network of these shapes.
    pub fn huggingface(&self, card: &Card) -> Result<Vec<File>, Error> {
        let Some(found) = self.architecture().filter(|found| found.is_in_timm()) else {
            let what =
                self.architecture().map_or_else(|| "an unknown architecture".to_owned(), |found| found.to_string());
            return Err(self.refused(format!("is {what}, which timm does not have; export onnx or safetensors")));
        };
        let arch = found.arch.name();
        let features = found.features();
        let augment = &card.pretrain.augment;
        if augment.channels() != found.channels {
            let (has, wants) = (found.channels, augment.channels());
            return Err(self.refused(format!("has {has} channels, spec.dataset.channels is {wants}")));
        }
        let config =
            serde_json::to_vec_pretty(&config(arch, features, augment)).map_err(|e| self.refused(e.to_string()))?;
        let mut files = vec![
            file("model.safetensors", self.safetensors()?, self.backbone().len()),
            file("config.json", config, 0),
            file("README.md", readme(arch, features, self.epochs, card).into_bytes(), 0),
        ];
        files.extend(card.curves.iter().map(|(title, svg)| file(&picture_name(title), svg.clone().into_bytes(), 0)));
        Ok(files)
    }
}

fn file(name: &str, bytes: Vec<u8>, tensors: usize) -> File {
    File { name: format!("{FOLDER}/{name}"), bytes, tensors }
}

fn picture_name(title: &str) -> String {
    format!("{}.svg", title.to_lowercase().replace(' ', "-"))
}

/// `config.json` as `timm.models.push_to_hf_hub` writes it.
fn config(arch: &str, features: usize, augment: &Augment) -> serde_json::Value {
    let (crop, channels) = (augment.crop_size, augment.channels());
    let mut config = json!({
        "architecture": arch,
        "num_classes": 0,
        "num_features": features,
        "global_pool": "avg",
        "pretrained_cfg": {
            "tag": "simsiam",
            "custom_load": false,
            "input_size": [channels, crop, crop],
            "fixed_input_size": false,
            "interpolation": "bilinear",
            "crop_pct": crop_fraction(augment),
            "crop_mode": "center",
            "mean": augment.mean,
            "std": augment.std,
            "num_classes": 0,
            "pool_size": [crop.div_ceil(32), crop.div_ceil(32)],
            "first_conv": "conv1",
            "classifier": "fc",
        },
    });
    if channels != 3 {
        config["model_args"] = json!({"in_chans": channels});
        // timm would adapt the weights of a first convolution that it knows by name, as if they were for RGB.
        config["pretrained_cfg"]["first_conv"] = serde_json::Value::Null;
    }
    config
}

/// The lines of the card's example that make the model's input, and the library that they need.
fn example_input(augment: &Augment) -> (&'static str, String) {
    let (crop, channels) = (augment.crop_size, augment.channels());
    let transformed = |mode| {
        let lines = "config = timm.data.resolve_model_data_config(model)\n\
                     transform = timm.data.create_transform(**config, is_training=False)\n";
        (
            "from PIL import Image\n",
            format!("{lines}images = transform(Image.open(\"image.jpg\").convert(\"{mode}\"))[None]\n"),
        )
    };
    match channels {
        1 => transformed("L"),
        3 => transformed("RGB"),
        _ => (
            "",
            format!(
                "# Images of {channels} channels with values from 0 to 1, resized and cropped as below.\n\
                 images = torch.rand(1, {channels}, {crop}, {crop})\n\
                 mean = torch.tensor({:?}).view(-1, 1, 1)\nstd = torch.tensor({:?}).view(-1, 1, 1)\n\
                 images = (images - mean) / std\n",
                augment.mean, augment.std
            ),
        ),
    }
}

/// The fraction that makes timm, which computes ⌊crop ÷ fraction⌋, resize as evaluation does here.
fn crop_fraction(augment: &Augment) -> f64 {
    let (crop, resize) = (f64::from(augment.crop_size), f64::from(augment.eval_resize()));
    let exact = crop / resize;
    if (crop / exact).floor() == resize { exact } else { crop / (resize + 0.5) }
}

fn readme(arch: &str, features: usize, epochs: Option<u64>, card: &Card) -> String {
    let Card { run, pretrain, samples, figures, curves } = card;
    let augment = &pretrain.augment;
    let epochs = epochs.unwrap_or_else(|| u64::from(pretrain.epochs));
    let (import, input) = example_input(augment);
    let channels = match augment.channels() {
        3 => String::new(),
        channels => format!(" for images of {}", counted(channels)),
    };
    let mut text = format!(
        "---\nlibrary_name: timm\npipeline_tag: image-feature-extraction\ntags:\n- timm\n- image-feature-extraction\n\
         - self-supervised\n- simsiam\n---\n\
         # {run}\n\n\
         A {arch} backbone{channels} trained without labels by SimSiam ([Chen and He, 2020](https://arxiv.org/abs/2011.10566)).\n\n\
         ## Use\n\n\
         ```python\nimport timm\nimport torch\n{import}\n\
         # The folder with this file, or hf-hub:OWNER/NAME once it is published.\n\
         model = timm.create_model(\"local-dir:.\", pretrained=True).eval()\n\
         {input}\n\
         with torch.no_grad():\n    \
         features = model(images)  # [1, {features}]\n```\n\n\
         `num_classes=N` adds an untrained classifier for fine-tuning.\n\n\
         Images are resized to {} pixels on the shorter side (bilinear), cropped to {} × {} in the centre, and normalised with\n\
         mean {:?} and standard deviation {:?}.\n",
        augment.eval_resize(),
        augment.crop_size,
        augment.crop_size,
        augment.mean,
        augment.std,
    );
    if !figures.is_empty() {
        text.push_str("\n## Results\n\n| | | |\n|---|---|---|\n");
        for [label, value, detail] in figures {
            let _ = writeln!(text, "| {} | {} | {} |", cell(label), cell(value), cell(detail));
        }
        text.push_str("\nMeasured by the run itself on its own images.\n");
    }
    for (title, _) in curves {
        let _ = write!(text, "\n![{title}]({})\n", picture_name(title));
    }
    let _ = write!(
        text,
        "\n## Training\n\n| | |\n|---|---|\n| images | {samples} |\n| epochs | {epochs} |\n| batch size | {} |\n\
         | optimiser | SGD, lr {} × batch size ÷ 256, momentum {}, weight decay {} |\n\
         | projector, predictor | {} layers, dim {}, predictor width {} |\n\
         | crops | {} px, scale {} to {} |\n| seed | {} |\n| software | simsiam {} |\n",
        pretrain.batch_size,
        pretrain.lr,
        pretrain.momentum,
        pretrain.weight_decay,
        pretrain.projector.layers,
        pretrain.dim,
        pretrain.pred_dim,
        augment.crop_size,
        augment.min_scale,
        augment.max_scale,
        pretrain.seed,
        env!("CARGO_PKG_VERSION"),
    );
    text.push_str(
        "\nThe licence of the weights and a description of the training images are for their owner to add.\n",
    );
    text
}

/// Text of a table's cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crop_fraction_gives_the_resize_of_evaluation() {
        for crop_size in 8..=1024 {
            for eval_resize in [None, Some(crop_size), Some(crop_size + 37)] {
                let augment = Augment { crop_size, eval_resize, ..Augment::default() };
                let resize = (f64::from(crop_size) / crop_fraction(&augment)).floor();
                assert_eq!(resize, f64::from(augment.eval_resize()), "{crop_size} {eval_resize:?}");
            }
        }
        assert_eq!(crop_fraction(&Augment::default()), 0.875);
    }
}
