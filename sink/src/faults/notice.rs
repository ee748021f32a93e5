//! The message that a bounced sender gets: a delivery status notification (RFC 3464).
//!
//! Owns the text. Dates come in as parameters, so the same bounce makes the same bytes.

use message::traffic::TrafficHeader;
use smtp::reply::EnhancedCode;

/// A message that was accepted and is to come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bounce {
    /// The sender of the message, who gets the notification.
    pub(crate) sender: String,
    /// The recipients that it failed for, at least one.
    pub(crate) recipients: Vec<String>,
    /// Why.
    pub(crate) status: EnhancedCode,
    /// Why, in words.
    pub(crate) text: String,
    /// The laboratory's header of the message, where it had one.
    pub(crate) traffic: Option<TrafficHeader>,
}

impl Bounce {
    /// The notification. `number` tells the notifications of one sink apart.
    pub(super) fn notice(&self, hostname: &str, date: &str, number: u64) -> Vec<u8> {
        let Self { sender, recipients, status, text, traffic } = self;
        let boundary = format!("=_bounce_{number}");
        let text = one_line(text);
        let mut notice = format!(
            "From: <mailer-daemon@{hostname}>\r\n\
             To: <{sender}>\r\n\
             Subject: Your message has come back\r\n\
             Date: {date}\r\n\
             Message-ID: <bounce.{number}@{hostname}>\r\n\
             Auto-Submitted: auto-replied\r\n\
             MIME-Version: 1.0\r\n\
             Content-Type: multipart/report; report-type=delivery-status; boundary=\"{boundary}\"\r\n\
             \r\n\
             --{boundary}\r\n\
             Content-Type: text/plain; charset=utf-8\r\n\
             \r\n\
             {hostname} took your message and could not deliver it:\r\n\
             {text}\r\n\
             \r\n\
             --{boundary}\r\n\
             Content-Type: message/delivery-status\r\n\
             \r\n\
             Reporting-MTA: dns; {hostname}\r\n\
             Arrival-Date: {date}\r\n"
        )
        .into_bytes();
        for recipient in recipients {
            let group = format!(
                "\r\nFinal-Recipient: rfc822; {recipient}\r\nAction: failed\r\nStatus: {status}\r\n\
                 Diagnostic-Code: smtp; 550 {status} {text}\r\n"
            );
            notice.extend_from_slice(group.as_bytes());
        }
        let headers = format!("\r\n--{boundary}\r\nContent-Type: text/rfc822-headers\r\n\r\n");
        notice.extend_from_slice(headers.as_bytes());
        if let Some(traffic) = traffic {
            traffic.write(&mut notice);
        }
        notice.extend_from_slice(format!("From: <{sender}>\r\n\r\n--{boundary}--\r\n").as_bytes());
        notice
    }
}

/// No text of a rule begins a further header.
fn one_line(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_has_its_three_parts_and_no_line_of_a_stranger() {
        let bounce = Bounce {
            sender: "s@example.test".to_owned(),
            recipients: vec!["a@b.test".to_owned(), "c@d.test".to_owned()],
            status: EnhancedCode { class: 5, subject: 1, detail: 1 },
            text: "nobody\r\nBcc: x@y.test".to_owned(),
            traffic: None,
        };
        let notice = bounce.notice("sink.localhost", "Thu, 1 Jan 1970 00:00:00 +0000", 7);
        let notice = String::from_utf8(notice).unwrap();
        for line in [
            "Content-Type: multipart/report; report-type=delivery-status; boundary=\"=_bounce_7\"",
            "Reporting-MTA: dns; sink.localhost",
            "Final-Recipient: rfc822; c@d.test",
            "Status: 5.1.1",
            "Diagnostic-Code: smtp; 550 5.1.1 nobody  Bcc: x@y.test",
            "Content-Type: text/rfc822-headers",
            "--=_bounce_7--",
        ] {
            assert!(notice.lines().any(|have| have == line), "{line:?} is missing in\n{notice}");
        }
        assert_eq!(notice.matches("\n--=_bounce_7").count(), 4);
        assert!(!notice.lines().any(|line| line.starts_with("Bcc")));
    }
}
