use crate::validate_policy;

fn refused(text: &str, why: &str) {
    let errors = validate_policy(text);
    assert!(
        errors.iter().any(|error| error.contains(why)),
        "{}: {errors:?}",
        text.chars().take(100).collect::<String>()
    );
}

#[test]
fn what_cedar_or_the_schema_does_not_know_is_refused() {
    refused("", "1 to 100");
    refused("permit(principal", "");
    refused("allow all;", "");
    refused("permit(principal == ?principal, action, resource);", "templates");
    refused(r#"permit(principal, action == AESP::Action::"tool.invoek", resource);"#, "tool.invoek");
    refused(
        r#"permit(principal, action == AESP::Action::"tool.invoke", resource) when { resource.colour == "red" };"#,
        "colour",
    );
    refused(
        r#"permit(principal, action == AESP::Action::"tool.invoke", resource) when { resource.name > 3 };"#,
        "",
    );
    refused(
        r#"permit(principal, action == AESP::Action::"tool.invoke", resource) when { context.sourceIp.isLoopback() };"#,
        "sourceIp",
    );
    refused(r#"forbid(principal in AESP::Tag::"x", action, resource);"#, "");
    refused(
        r#"forbid(principal, action == AESP::Action::"session.create", resource == AESP::Tool::"x");"#,
        "",
    );
    refused(
        r#"permit(principal, action == AESP::Action::"tool.invoke", resource) when { context.arguments.longs.getTag("/n") > 1 };"#,
        "",
    );
    refused(&"permit(principal, action, resource);".repeat(101), "1 to 100");
    refused(&format!("permit(principal, action, resource); // {}", "x".repeat(40_000)), "longer than");
}

#[test]
fn every_error_is_reported() {
    let text = r#"permit(principal, action == AESP::Action::"tool.invoke", resource) when { resource.colour == "red" };
        permit(principal, action == AESP::Action::"tool.invoke", resource) when { resource.weight == 3 };"#;
    let errors = validate_policy(text);
    assert!(
        errors.iter().any(|e| e.contains("colour")) && errors.iter().any(|e| e.contains("weight")),
        "{errors:?}"
    );
}

/// On a test's stack of 2 MiB, as on a worker of the runtime.
#[test]
fn deep_or_long_expressions_do_not_exhaust_the_stack() {
    let condition = |inner: String| format!("permit(principal, action, resource) when {{ {inner} }};");
    let deep = |open: &str, middle: &str, close: &str, times: usize| {
        condition(format!("{}{middle}{}", open.repeat(times), close.repeat(times)))
    };
    let texts = |size: usize| {
        [
            deep("(", "true", ")", 15 * size),
            deep("[", "1", "]", 15 * size),
            deep("{a:", "1", "}", 8 * size),
            deep("!", "true", "", 30 * size),
            deep("-", "1", "", 30 * size),
            deep("if true then ", "true", " else false", size),
            deep("if ", "true", " then true else false", size),
            deep("ip(", "1", ")", 8 * size),
            condition(vec!["true"; 4 * size].join(" && ")),
            condition(vec!["true"; 4 * size].join(" || ")),
            condition(format!("{} > 0", vec!["1"; 8 * size].join("+"))),
            condition(format!("principal{}", ".a".repeat(15 * size))),
            condition(format!("principal{}", " has a".repeat(5 * size))),
            condition(format!("1{}", " < 1".repeat(5 * size))),
            condition(format!("context{} == 1", "[\"a\"]".repeat(6 * size))),
            format!("{}permit(principal, action, resource);", "@a(\"b\") ".repeat(3 * size)),
            format!("permit(principal, action, resource){};", " when { true }".repeat(2 * size)),
        ]
    };
    // Either verdict will do; returning is the point, on the way to the limits too.
    for size in [1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 200, 400, 1_000] {
        for text in texts(size) {
            drop(validate_policy(&text));
        }
    }
}
