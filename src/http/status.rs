//! Status codes: reason phrases, status lines, the gateway's own error page.

use std::io::Write;

/// The reason phrase registered for a status; empty for others (RFC 9112 §4 allows that).
#[must_use]
pub fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        102 => "Processing",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        207 => "Multi-Status",
        208 => "Already Reported",
        226 => "IM Used",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        305 => "Use Proxy",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        _ => error_reason(status),
    }
}

fn error_reason(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        418 => "I'm a teapot",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        423 => "Locked",
        424 => "Failed Dependency",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        506 => "Variant Also Negotiates",
        507 => "Insufficient Storage",
        508 => "Loop Detected",
        510 => "Not Extended",
        511 => "Network Authentication Required",
        _ => "",
    }
}

/// Writes `HTTP/1.1 200 OK` and its line end. We speak 1.1 to everyone (RFC 9110 §6.2).
pub fn write_status_line(out: &mut Vec<u8>, status: u16) {
    if status == 200 {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason(status).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// The HTML page for a status of 300 and more that comes without a body, as nginx and so APISIX
/// show one (APISIX reference §11).
pub fn write_error_page(out: &mut Vec<u8>, status: u16) {
    let reason = reason(status);
    let gap = if reason.is_empty() { "" } else { " " };
    // Writing to a vector can't fail.
    let _ = write!(
        out,
        "<html>\r\n<head><title>{status}{gap}{reason}</title></head>\r\n<body>\r\n\
         <center><h1>{status}{gap}{reason}</h1></center>\r\n<hr><center>ringgate</center>\r\n\
         </body>\r\n</html>\r\n"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_lines() {
        let line = |status| {
            let mut out = Vec::new();
            write_status_line(&mut out, status);
            String::from_utf8(out).expect("text")
        };
        assert_eq!(line(200), "HTTP/1.1 200 OK\r\n");
        assert_eq!(line(404), "HTTP/1.1 404 Not Found\r\n");
        assert_eq!(line(799), "HTTP/1.1 799 \r\n");
    }

    #[test]
    fn pages_name_the_status() {
        let mut out = Vec::new();
        write_error_page(&mut out, 502);
        let page = String::from_utf8(out).expect("text");
        assert!(page.contains("<title>502 Bad Gateway</title>"), "{page}");
    }
}
