//! The rules that hold for a tenant: its own and the built-in ones, as it tuned them.

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
};

use aesp_proto::TenantId;

use crate::{
    document::{Document, RuleForm, Tuning},
    rule::Rule,
};

/// The rules that hold for a tenant.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    rules: Vec<(RuleForm, bool, Arc<Rule>)>,
}

/// The most rules of a tenant's own, and the most groups that they may have together.
const RULES: usize = 100;
const ALL_GROUPS: usize = 50_000;
const TESTS: usize = 200;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct BuiltIn {
    everywhere: Vec<RuleForm>,
    platform: Vec<RuleForm>,
}

/// The rules that are there without anybody's doing.
const BUILT_IN: &str = include_str!("builtin.toml");

/// Returns the built-in rules of a tenant; those about the Host itself are the platform's.
fn built_in(tenant: TenantId) -> Vec<RuleForm> {
    static READ: OnceLock<BuiltIn> = OnceLock::new();
    let all = READ.get_or_init(|| toml::from_str(BUILT_IN).expect("it is tested"));
    let mut rules = all.everywhere.clone();
    if tenant == TenantId::PLATFORM {
        rules.extend(all.platform.iter().cloned());
    }
    rules
}

impl Rules {
    /// Puts the rules of a document together with the built-in ones.
    ///
    /// # Errors
    /// What makes no sense, and where.
    pub(crate) fn compile(tenant: TenantId, document: &Document) -> Result<Self, String> {
        if document.rules.len() > RULES || document.tests.len() > TESTS {
            return Err(format!("there are more than {RULES} rules or {TESTS} tests"));
        }
        let mut rules = Vec::new();
        let given = built_in(tenant);
        if let Some(unknown) =
            document.builtin.keys().find(|name| given.iter().all(|rule| rule.name != **name))
        {
            let names: Vec<&str> = given.iter().map(|rule| rule.name.as_str()).collect();
            return Err(format!(
                "`builtin.{unknown}`: no built-in rule is called so; there are {}",
                names.join(", ")
            ));
        }
        for mut form in given {
            let tuning = document.builtin.get(&form.name);
            if tuning.is_some_and(|tuning| tuning.enabled == Some(false)) {
                continue;
            }
            if let Some(tuning) = tuning {
                tune(&mut form, tuning);
            }
            let rule = form.compile().map_err(|why| format!("`builtin.{}`: {why}", form.name))?;
            rules.push((form, true, Arc::new(rule)));
        }
        for form in &document.rules {
            let rule = form.compile().map_err(|why| format!("rule `{}`: {why}", form.name))?;
            rules.push((form.clone(), false, Arc::new(rule)));
        }
        rules.sort_by(|(a, ..), (b, ..)| a.name.cmp(&b.name));
        if let Some(pair) = rules.windows(2).find(|pair| pair[0].0.name == pair[1].0.name) {
            return Err(format!("two rules are called `{}`, which may be a built-in one", pair[0].0.name));
        }
        let groups: usize =
            rules.iter().filter(|(_, built_in, _)| !built_in).map(|(.., rule)| rule.max_groups).sum();
        if groups > ALL_GROUPS {
            return Err(format!("`max_groups` of all rules is {groups} together, more than {ALL_GROUPS}"));
        }
        Ok(Self { rules })
    }

    /// Returns the rules, in the order of their names.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Rule>> {
        self.rules.iter().map(|(.., rule)| rule)
    }

    /// Returns the rules as they are written, and whether each is built in.
    pub(crate) fn forms(&self) -> impl Iterator<Item = (&RuleForm, bool)> {
        self.rules.iter().map(|(form, built_in, _)| (form, *built_in))
    }

    pub(crate) fn find(&self, name: &str) -> Option<(&RuleForm, bool)> {
        self.forms().find(|(form, _)| form.name == name)
    }

    pub(crate) fn len(&self) -> usize {
        self.rules.len()
    }

    /// Returns every receiver that a rule names.
    pub(crate) fn receivers(&self) -> BTreeSet<&str> {
        let all = self.rules.iter().flat_map(|(form, ..)| {
            let later = form.escalate.iter().flat_map(|step| &step.receivers);
            form.receivers.iter().chain(later)
        });
        all.map(String::as_str).collect()
    }
}

fn tune(form: &mut RuleForm, tuning: &Tuning) {
    let Tuning {
        enabled: _,
        severity,
        count,
        window,
        hold,
        keep_firing_for,
        receivers,
        escalate,
        repeat,
        except,
    } = tuning;
    form.severity = severity.or(form.severity);
    form.count = count.or(form.count);
    form.window = window.or(form.window);
    form.hold = hold.unwrap_or(form.hold);
    form.keep_firing_for = keep_firing_for.or(form.keep_firing_for);
    form.repeat = repeat.or(form.repeat);
    if let Some(receivers) = receivers {
        form.receivers.clone_from(receivers);
    }
    if let Some(escalate) = escalate {
        form.escalate.clone_from(escalate);
    }
    if let Some(except) = except {
        // No built-in rule leaves anything out by itself, as is tested.
        form.events.except = Some(Box::new(except.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table;

    #[test]
    fn the_built_in_rules_make_sense_and_say_what_to_do() {
        for tenant in [TenantId::PLATFORM, TenantId::from_bytes([1; 16])] {
            let rules = Rules::compile(tenant, &Document::default()).unwrap();
            assert!(rules.len() >= 4);
            for (form, built_in) in rules.forms() {
                assert!(built_in && form.description.len() > 20, "{}", form.name);
                assert!(form.events.except.is_none(), "{}: tuning would replace it", form.name);
                assert!(form.annotations.contains_key("summary") && form.severity.is_some(), "{}", form.name);
            }
        }
    }

    #[test]
    fn the_built_in_rules_pass_their_tests() {
        let document = Document::read(include_str!("builtin_tests.toml")).unwrap();
        let rules = Rules::compile(TenantId::PLATFORM, &document).unwrap();
        let failed = table::run(TenantId::PLATFORM, &rules, &document.tests);
        assert!(failed.is_empty(), "{failed:#?}");
        let named: BTreeSet<&str> = document
            .tests
            .iter()
            .flat_map(|test| test.expect.iter().map(|expect| expect.rule.as_str()))
            .collect();
        for (form, _) in rules.forms() {
            assert!(named.contains(form.name.as_str()), "{} has no test", form.name);
        }
    }

    fn compiled(text: &str) -> Result<Rules, String> {
        Rules::compile(TenantId::from_bytes([1; 16]), &Document::read(text)?)
    }

    #[test]
    fn built_in_rules_are_tuned_and_switched_off() {
        let rules = compiled("[builtin.repeated-denials]\ncount = 99\nreceivers = [\"soc\"]").unwrap();
        let (form, _) = rules.find("repeated-denials").unwrap();
        assert_eq!((form.count, &form.receivers), (Some(99), &vec!["soc".to_owned()]));
        assert!(rules.receivers().contains("soc"));
        let fewer = compiled("[builtin.repeated-denials]\nenabled = false").unwrap();
        assert_eq!((fewer.len() + 1, fewer.find("repeated-denials").is_none()), (rules.len(), true));
    }

    #[test]
    fn mistakes_are_named() {
        let rule = |more: &str| format!("[[rules]]\nname = \"r\"\n{more}");
        for (text, why) in [
            ("[builtin.nothing]".to_owned(), "repeated-denials"),
            ("[builtin.backup-failed]".to_owned(), "no built-in rule"),
            (rule("count = 1"), "`window`"),
            (rule("window = \"5m\""), "`count`"),
            (rule("count = 1\nwindow = \"5x\""), "5m"),
            (rule("count = 1\nwindow = \"5m\"\nratio = 0.5"), "`ratio` does not go"),
            (rule("kind = \"ratio\"\nratio = 2.0\nwindow = \"5m\"\nof = {}"), "up to 1"),
            (rule("kind = \"ratio\"\nratio = 0.5\nwindow = \"5m\""), "`of` is missing"),
            (rule("kind = \"first_seen\""), "what is new"),
            (rule("kind = \"first_seen\"\ngroup_by = [\"tool\"]\nfor = \"5m\""), "`for`"),
            (
                rule("kind = \"absence\"\nwindow = \"5m\"\narmed = \"at_once\"\ngroup_by = [\"tool\"]"),
                "at_once",
            ),
            (rule("count = 1\nwindow = \"5m\"\ngroup_by = [\"color\"]"), "color"),
            (rule("count = 1\nwindow = \"5m\"\nlabels = { tenant = \"x\" }"), "`labels.tenant`"),
            (rule("count = 1\nwindow = \"5m\"\nannotations = { summary = \"{color}\" }"), "color"),
            (rule("count = 1\nwindow = \"5m\"\nescalate = [{ after = \"5m\", receivers = [] }]"), "escalate"),
            (rule("count = 1\nwindow = \"5m\"\nmax_groups = 1000000"), "max_groups"),
            (rule("count = 1\nwindow = \"5m\"\ncolour = 1"), "colour"),
            ("[[rules]]\nname = \"a b\"".to_owned(), "`name`"),
            ("[[rules]]\nname = \"repeated-denials\"\ncount = 1\nwindow = \"5m\"".to_owned(), "two rules"),
        ] {
            let error = compiled(&text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn json_says_the_same_as_toml() {
        let toml = "[[rules]]\nname = \"r\"\ncount = 3\nwindow = \"5m\"\nfor = \"1m\"";
        let json = r#"{"rules":[{"name":"r","count":3,"window":"5m","for":"1m"}]}"#;
        assert_eq!(Document::read(toml).unwrap(), Document::read(json).unwrap());
        let again = serde_json::to_string(&Document::read(toml).unwrap()).unwrap();
        assert_eq!(Document::read(&again).unwrap(), Document::read(toml).unwrap());
    }
}
