// Package sandbox is a stand-in for the Sendinblue (Brevo) contacts API, as faithful as reports of the live API
// allow, its traps included: add and remove match addresses case-sensitively, answer 400 when every one fails, imports
// are asynchronous and run on after their sender is gone, numbers are unique, unknown attributes and values of the
// wrong type are ignored, blocks are kept. It counts calls as the API's rate limits do, and can be ordered to fail.
//
// It serves the demo, the tests, and users who stage a configuration before they point it at an account.
package sandbox
