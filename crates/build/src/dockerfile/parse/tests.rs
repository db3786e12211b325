use super::*;

fn error(text: &str, expected: &str) {
    assert_eq!(parse(text).expect_err(text).to_string(), expected, "{text:?}");
}

fn on_line_2(line: &str, expected: &str) {
    error(&format!("FROM busybox\n{line}\n"), &format!("dockerfile parse error on line 2: {expected}"));
}

#[test]
fn errors_of_the_whole_are_dockers() {
    error("# only\n", "failed to parse Dockerfile: file with no instructions");
    error("RUN true\n", "no build stage in current context");
    error("ARG x\n", "no build stage in current context");
    error("FROM\n", "dockerfile parse error on line 1: FROM requires either one or three arguments");
    error("FROM b AS\n", "dockerfile parse error on line 1: FROM requires either one or three arguments");
    error(
        "FROM b AS 1a\n",
        "dockerfile parse error on line 1: invalid name for build stage: \"1a\", name can't start with a number or contain symbols",
    );
    error("FROM --foo b\n", "dockerfile parse error on line 1: unknown flag: --foo");
    error("FROM b\nENV a\n", "failed to parse Dockerfile: ENV must have two arguments");
    error("FROM b\nLABEL a\n", "failed to parse Dockerfile: LABEL must have two arguments");
    error(
        "FROM b\nENV a=b c\n",
        "failed to parse Dockerfile: Syntax error - can't find = in \"c\". Must be of the form: name=value",
    );
    error(
        "FROM b\nRUN [\"a\", 1]\n",
        "failed to parse Dockerfile: when using JSON array syntax, arrays must be comprised of strings only",
    );
}

#[test]
fn errors_of_instructions_are_dockers() {
    on_line_2("FOO bar", "unknown instruction: FOO (did you mean FROM?)");
    on_line_2("ENV", "ENV requires at least one argument");
    on_line_2("ENV =b", "ENV names can not be blank");
    on_line_2("LABEL", "LABEL requires at least one argument");
    on_line_2(
        "COPY a",
        "COPY requires at least two arguments, but only one was provided. Destination could not be determined",
    );
    on_line_2("COPY --foo=1 a b", "unknown flag: --foo (did you mean from?)");
    on_line_2("COPY --parents a b", "unknown flag: --parents");
    on_line_2("RUN --foo=bar true", "unknown flag: --foo");
    on_line_2("EXPOSE", "EXPOSE requires at least one argument");
    on_line_2("USER", "USER requires exactly one argument");
    on_line_2("WORKDIR", "WORKDIR requires exactly one argument");
    on_line_2("MAINTAINER", "MAINTAINER requires exactly one argument");
    on_line_2("STOPSIGNAL", "STOPSIGNAL requires exactly one argument");
    on_line_2("VOLUME", "VOLUME requires at least one argument");
    on_line_2("VOLUME [\"\"]", "VOLUME specified can not be an empty string");
    on_line_2("SHELL a", "SHELL requires the arguments to be in JSON form");
    on_line_2("SHELL []", "SHELL requires at least one argument");
    on_line_2("HEALTHCHECK", "HEALTHCHECK requires at least one argument");
    on_line_2("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD");
    on_line_2("HEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments");
    on_line_2("HEALTHCHECK FOO x", "Unknown type \"FOO\" in HEALTHCHECK (try CMD)");
    on_line_2("HEALTHCHECK --interval=1 CMD x", "time: missing unit in duration \"1\"");
    on_line_2("HEALTHCHECK --interval=1us CMD x", "Interval \"interval\" cannot be less than 1ms");
    on_line_2("HEALTHCHECK --retries=-1 CMD x", "--retries cannot be negative (-1)");
    on_line_2("HEALTHCHECK --retries=a CMD x", "strconv.ParseInt: parsing \"a\": invalid syntax");
    on_line_2("ONBUILD", "ONBUILD requires at least one argument");
    on_line_2("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger");
    on_line_2("ONBUILD MAINTAINER x", "MAINTAINER isn't allowed as an ONBUILD trigger");
    on_line_2("ONBUILD ONBUILD RUN x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed");
    on_line_2("ARG", "ARG requires at least one argument");
    on_line_2("ARG =c", "ARG names can not be blank");
}

#[test]
fn flags_are_split_from_the_rest() {
    assert_eq!(
        split_flags("--a=b --c=\"d e\" f --g", '\\'),
        (vec!["--a=b".into(), "--c=d e".into()], "f --g")
    );
    assert_eq!(split_flags("-- --a", '\\'), (vec![], "--a"));
    assert_eq!(split_flags("a --b", '\\'), (vec![], "a --b"));
}
