//! Alerts to test with.

use aesp_proto::{AlertId, TenantId, Timestamp};

use crate::{Alert, RuleForm, Wait, group::Group};

/// Returns an alert of a rule of this name that began at 1,000 ms.
pub(crate) fn alert(rule: &str) -> Alert {
    let form = RuleForm {
        name: rule.into(),
        count: Some(1),
        window: Some(Wait::seconds(60)),
        ..RuleForm::default()
    };
    let group = Group::new(Vec::new(), false, Timestamp(1_000));
    let what = (AlertId::from_bytes([1; 16]), Timestamp(1_000), "1");
    Alert::new(TenantId::PLATFORM, &form.compile().unwrap(), &group, what, &[])
}
