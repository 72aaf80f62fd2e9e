use super::*;

#[test]
fn the_command_line_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn usual_lines_are_understood() {
    for line in [
        "aesp node --listen-grpc 127.0.0.1:0 --set log.level=debug",
        "aesp init --data-dir d --host node-1.example",
        "aesp tenant create acme --sessions 10 --output json",
        "aesp -t acme tenant config set sessions.default_ttl_seconds 60",
        "aesp tool import mcp --from-server --prefix git_ --offer-to acme -- uvx mcp-server-git",
        "aesp tool import mcp -f tools.json",
        "aesp tool activate git_log 1.0.0 --digest ab",
        "aesp role create reader --grant tool.invoke=tool:git_log,tag:vcs --grant session.*=*",
        "aesp account create bot --role agent -t acme",
        "aesp call git_log --session ses_1 --args {\"max_count\":1} --stream",
        "aesp call resolve --session ses_1 inv_1 --as failed --justification looked",
        "aesp call outcome --session ses_1 inv_1",
        "aesp audit search --type TOOL_INVOCATION --type data-access --outcome denied --newest-first",
        "aesp audit search --tool echo --source-ip 192.0.2.1 --text refused --min-risk 0.5 --start 2026-11-27T05:30:00Z",
        "aesp audit search --follow --external --output json",
        "aesp audit query --action tenant.create",
        "aesp audit stats --by hour,outcome --tool echo --end 1700000000000",
        "aesp audit export -f log.csv --format csv --outcome denied --resume",
        "aesp audit index rebuild",
        "aesp audit verify export.jsonl",
        "aesp audit verify-receipt kept.jsonl --key 0101010101010101010101010101010101010101010101010101010101010101",
        "aesp audit verify-receipt - --export export.jsonl",
        "aesp audit verify-receipt kept.jsonl --online",
        "aesp call git_log --session ses_1 --receipt kept.jsonl",
        "aesp audit retention set --rule name=calls,days=30,type=tool-invocation --standard-days 365 --expect 1",
        "aesp audit retention show --version 2 --output json",
        "aesp audit hold place --principal ada --from 2026-01-01T00:00:00Z --reason case-7",
        "aesp audit hold release hld_1 --reason over",
        "aesp audit erase --principal prn_1 --reason asked",
        "aesp audit destructions --limit 5",
        "aesp audit archive run",
        "aesp audit archive status --output json",
        "aesp audit access-report --tool echo --start 1700000000000",
        "aesp audit verify log.csv --manifest log.csv.manifest",
        "aesp runtime register git-1 --identity spiffe://aesp.local/runtime/git-1 --serves acme",
        "aesp runtime mcp --runtime-id git-1 -- uvx mcp-server-git",
        "aesp pki issue --name git-1 --runtime git-1 --zone office",
        "aesp pki node node-2 --host node-2.example",
        "aesp init --name n1 --listen-peers 127.0.0.1:9444",
        "aesp node --listen-peers 127.0.0.1:0",
        "aesp cluster status --output json",
        "aesp cluster drain node-2",
        "aesp cluster rebalance",
        "aesp cluster remove 17",
        "aesp config default",
        "aesp backup now --wait 30",
        "aesp backup verify 1-4711",
        "aesp restore --at 2026-11-26T14:03:05.250Z --into d --output json",
        "aesp restore --at latest --into d -t ten_1",
        "aesp drill --scratch d --no-record",
        "aesp store export -f all.export --for-key other.key",
        "aesp store import --file all.export --check",
    ] {
        if let Err(error) = Cli::try_parse_from(line.split(' ')) {
            panic!("{line}: {error}");
        }
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    for line in [
        "aesp",
        "aesp tenant",
        "aesp role create r --grant tool.invoke",
        "aesp tool import mcp",
        "aesp tool import mcp --from-server",
        "aesp pki issue --name ../x",
        "aesp call resolve --session s i --as perhaps --justification j",
        "aesp audit search --type NOTHING",
        "aesp audit search --follow --newest-first",
        "aesp audit search --start yesterday",
        "aesp audit verify-receipt kept.jsonl --online --export export.jsonl",
        "aesp audit verify-receipt kept.jsonl --key 01",
        "aesp tenant list --output xml",
        "aesp restore --at yesterday --into d",
        "aesp restore --into d",
    ] {
        assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
    }
}
