#!/usr/bin/env python3
"""Ten mistakes, and what ringgate, nginx, HAProxy and Caddy say of them: writes docs/ERRORS.md.

    perf/errors.py [target/release/ringgate]

Debian's nginx, haproxy and caddy must be there (.ci/need nginx-light haproxy caddy).
"""

import pathlib
import re
import subprocess
import sys
import tempfile

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
PLUGINS = REPOSITORY / "examples/plugins/dist"

ROUTE = """routes:
  - id: shop
    uri: /shop/*
{0}
#END
"""
NODES = '    upstream: { nodes: { "127.0.0.1:1980": 1 } }'

NGINX = "events {{}}\nhttp {{\n  server {{\n    listen 127.0.0.1:8080;\n    {0}\n  }}\n}}\n"
HAPROXY = "defaults\n  mode http\n  timeout connect 1s\n  timeout client 1s\n  timeout server 1s\n{0}\n"
FRONTEND = "frontend f\n  bind 127.0.0.1:8080\n  {0}\n  default_backend b\nbackend b\n  server a 127.0.0.1:1980\n"
CADDY = "http://127.0.0.1:8080 {{\n\t{0}\n}}\n"

# Name, then what is wrong in each one's own language.
CASES = [
    (
        "A misspelt key",
        ROUTE.format(NODES + "\n    plugin: { cors: {} }"),
        NGINX.format("location / { proxy_pas http://127.0.0.1:1980; }"),
        HAPROXY.format("  timout queue 1s\n" + FRONTEND.format("")),
        CADDY.format("reverse_proxi 127.0.0.1:1980"),
    ),
    (
        "A wrong type",
        ROUTE.format('    upstream: { retries: two, nodes: { "127.0.0.1:1980": 1 } }'),
        NGINX.format("keepalive_requests two;"),
        HAPROXY.format("  retries two\n" + FRONTEND.format("")),
        CADDY.format("reverse_proxy 127.0.0.1:1980 {\n\t\tlb_try_duration two\n\t}"),
    ),
    (
        "A bad weight",
        ROUTE.format('    upstream: { nodes: { "127.0.0.1:1980": -1 } }'),
        "events {}\nhttp {\n  upstream u { server 127.0.0.1:1980 weight=-1; }\n}\n",
        HAPROXY.format("backend b\n  server a 127.0.0.1:1980 weight 1000"),
        CADDY.format("reverse_proxy 127.0.0.1:1980 {\n\t\tlb_policy random_choose -1\n\t}"),
    ),
    (
        "An unknown plugin",
        ROUTE.format(NODES + "\n    plugins: { fault-injektion: { abort: { http_status: 503 } } }"),
        "load_module modules/ngx_http_none_module.so;\n" + NGINX.format("return 204;"),
        HAPROXY.format(FRONTEND.format("filter compresion")),
        CADDY.format("encode gzipp"),
    ),
    (
        "A network that is none",
        ROUTE.format(NODES + "\n    remote_addr: 10.0.0.0/33"),
        NGINX.format("allow 10.0.0.0/33;"),
        HAPROXY.format(FRONTEND.format("acl inside src 10.0.0.0/33")),
        CADDY.format("@inside remote_ip 10.0.0.0/33\n\trespond @inside 403"),
    ),
    (
        "A bad regular expression",
        ROUTE.format(NODES + '\n    vars: [[arg_id, "~~", "^([0-9]+$"]]'),
        NGINX.format('location ~ "^/([0-9]+$" { return 204; }'),
        HAPROXY.format(FRONTEND.format("acl number path_reg ^/([0-9]+$")),
        CADDY.format("@number path_regexp ^/([0-9]+$\n\trespond @number 403"),
    ),
    (
        "An upstream that is not there",
        ROUTE.format("    upstream_id: shpo") .replace(
            "routes:", 'upstreams: [{ id: shop, nodes: { "127.0.0.1:1980": 1 } }]\nroutes:'),
        NGINX.format("location / { proxy_pass http://shpo; }"),
        HAPROXY.format(FRONTEND.format("use_backend shpo")),
        CADDY.format("import shpo"),
    ),
    (
        "An id that is there twice",
        ROUTE.format(NODES + "\n  - id: shop\n    uri: /other\n" + NODES),
        "events {}\nhttp {\n  upstream u { server 127.0.0.1:1980; }\n  upstream u { server 127.0.0.1:1981; }\n}\n",
        HAPROXY.format("backend b\n  server a 127.0.0.1:1980\nbackend b\n  server a 127.0.0.1:1981"),
        CADDY.format("respond 200") + CADDY.format("respond 201"),
    ),
    (
        "A line in the wrong place",
        ROUTE.format(NODES).replace("    uri", "   uri"),
        NGINX.format("location / { return 204;"),
        HAPROXY.format("  bind 127.0.0.1:8080\n" + FRONTEND.format("")),
        CADDY.format("respond 200").replace("}\n", "\n"),
    ),
    (
        "A plugin's own configuration",
        ROUTE.format("    plugins: { fault-rust: { conf: { http_status: teapot } } }"),
        "events {}\nhttp {\n  limit_req_zone $remote_addr zone=z:1m rate=teapot;\n}\n",
        HAPROXY.format(FRONTEND.format("stick-table type ip size teapot")),
        CADDY.format("encode {\n\t\tgzip teapot\n\t}"),
    ),
]


def said(command, folder):
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    text = (done.stdout + done.stderr).replace(f"{folder}/", "")
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    if done.returncode == 0:
        text = re.sub(r"(?m)^\{.*\"level\":\"info\".*\n|^.*\tINFO\t.*\n", "", text)
        return (text.strip() + "\n(accepted)").strip()
    # What they say beside the mistake.
    noise = r"(?m)^.*(level\":\"info|\tINFO\t|\[NOTICE\]|test failed|Fatal errors|Fatal error).*\n?"
    text = re.sub(noise, "", text)
    text = re.sub(r"20\d\d/\d\d/\d\d \d\d:\d\d:\d\d ", "", text)
    text = re.sub(r"\[(ALERT|WARNING)\] +\(\d+\) : ", r"[\1] ", text)
    return re.sub(r"\d+#\d+: ", "", text).strip()


def run(ringgate, case):
    _, resources, nginx, haproxy, caddy = case
    with tempfile.TemporaryDirectory() as folder:
        write = lambda name, text: pathlib.Path(folder, name).write_text(text)
        write("config.yaml", "wasm:\n  plugins:\n    - name: fault-rust\n      priority: 7999\n"
              f"      file: {PLUGINS}/fault_injection_rust.wasm\n"
              f"ringgate: {{ cache_dir: {folder}/cache }}\n")
        write("apisix.yaml", resources)
        write("nginx.conf", "pid nginx.pid;\nerror_log stderr;\n" + nginx)
        write("haproxy.cfg", haproxy)
        write("Caddyfile", caddy)
        return {
            "ringgate": said([ringgate, "check", "-c", "config.yaml"], folder),
            "nginx": said(["nginx", "-t", "-p", folder, "-c", "nginx.conf"], folder),
            "HAProxy": said(["haproxy", "-c", "-f", "haproxy.cfg"], folder),
            "Caddy": said(["caddy", "validate", "--config", "Caddyfile", "--adapter", "caddyfile"], folder),
        }


def points(text):
    """Whether a message names the line, the column, and what to do: 0 to 3."""
    line = re.search(r"(\.yaml|\.conf|\.cfg|Caddyfile):\d+|\[[^\]]*:\d+\]", text)
    column = re.search(r"(?m)\.yaml:\d+:[1-9]|^\s*\^", text)
    hint = re.search(r"did you mean|\^+ \w|as in|      = |please|try |must be|expects", text, re.IGNORECASE)
    return sum(bool(found) for found in (line, column, hint))


def main():
    ringgate = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else REPOSITORY / "target/release/ringgate")
    results = [(case[0], run(ringgate.resolve(), case)) for case in CASES]
    tools = list(results[0][1])
    out = [
        "# What a mistake looks like",
        "",
        "Ten mistakes, and what is said of them: by `ringgate check`, and for the like mistake in their own language by Debian's nginx",
        "(`nginx -t`), HAProxy (`haproxy -c`) and Caddy (`caddy validate`). Written by `perf/errors.py`. Points: one each for the line, the",
        "column, and a word on what to do.",
        "",
        "| mistake | " + " | ".join(tools) + " |",
        "|---" * (len(tools) + 1) + "|",
    ]
    for name, texts in results:
        out.append(f"| {name} | " + " | ".join(str(points(texts[tool])) for tool in tools) + " |")
    totals = (sum(points(texts[tool]) for _, texts in results) for tool in tools)
    out.append("| **sum** | " + " | ".join(f"**{total}**" for total in totals) + " |")
    for name, texts in results:
        out += ["", f"## {name}"]
        for tool in tools:
            out += ["", f"{tool}:", "", "```", texts[tool], "```"]
    (REPOSITORY / "docs/ERRORS.md").write_text("\n".join(out) + "\n")


main()
