//! CEL conditions that several fields share, each with the message of its rule.

pub(super) const NAME: &str = "self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')";
pub(super) const NAME_TEXT: &str = "must be a name: lower-case letters, digits, - and .";
pub(super) const LABEL: &str = "self.matches('^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$')";
pub(super) const LABEL_TEXT: &str = "must be at most 63 letters, digits, -, _ and .";
pub(super) const QUANTITY: &str = "self.matches('^[0-9]{1,15}([.][0-9]{1,9})?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$')";
pub(super) const QUANTITY_TEXT: &str = "must be a quantity such as 16, 500m or 128Gi";
