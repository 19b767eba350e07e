// Package sendinblue writes contacts to one Sendinblue (Brevo) account: what an API call can carry (Limits, Row),
// how it is built (build.go, pure), what its answer means (classify.go, pure), the call budget (limiter.go) and the
// client that makes the calls (client.go). It knows nothing of Kafka, and it never repeats a call.
//
// Facts about the API are those of its OpenAPI description and of production reports; where a rule follows from one,
// the comment says so.
package sendinblue
