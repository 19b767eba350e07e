package sendinblue

import (
	"maps"
	"strings"
	"testing"

	"segsync/sink"
)

// An export's form is not documented: its separator, the case of its header and what tells of a subscription vary.
func TestAListIsReadInWhateverFormItComes(t *testing.T) {
	for name, file := range map[string]string{
		"semicolons":   "EMAIL;FIRSTNAME;EMAIL_MARKETING\nAnn@Example.com;\"A;nn\";subscribed\nbob@example.com;;unsubscribed\n",
		"commas":       "\ufeffemail,firstname,Email Marketing\r\nann@example.com,\"A;nn\",Subscribed\r\nbob@example.com,,Blocklisted\r\n",
		"tabs":         "ID\tFIRSTNAME\tEmail\tBLACKLISTED\n1\tA;nn\tann@example.com\tfalse\n2\t\tbob@example.com\ttrue\n",
		"a short line": "FIRSTNAME;BLOCKLISTED;EMAIL\nA;nn\n\"A;nn\";No;ann@example.com\n;Yes;bob@example.com\n",
	} {
		t.Run(name, func(t *testing.T) {
			all := map[string]sink.Listed{}
			err := readListing(strings.NewReader(file), []string{"FIRSTNAME", "SUBSCRIPTION"}, func(l *sink.Listed) {
				all[l.Address] = sink.Listed{Blocked: l.Blocked, Attributes: maps.Clone(l.Attributes)}
			})
			a, b := all["ann@example.com"], all["bob@example.com"]
			if err != nil || len(all) != 2 || a.Blocked || !b.Blocked || a.Attributes["FIRSTNAME"] != "A;nn" || b.Attributes["FIRSTNAME"] != "" {
				t.Errorf("%+v, %v", all, err)
			}
		})
	}
	err := readListing(strings.NewReader("EMAIL;SUBSCRIPTION\nann@example.com;no\n"), []string{"SUBSCRIPTION"}, func(l *sink.Listed) {
		if l.Blocked || l.Attributes["SUBSCRIPTION"] != "no" {
			t.Errorf("an attribute of the account's own is read as %+v", l)
		}
	})
	if err != nil {
		t.Error(err)
	}
	for _, file := range []string{"", "NAME;SMS\nx;1\n"} {
		if err := readListing(strings.NewReader(file), nil, func(*sink.Listed) {}); err == nil {
			t.Errorf("%q is read as a list", file)
		}
	}
}

func TestWhatWasSentIsKnownAgain(t *testing.T) {
	c := &Client{}
	for _, x := range []struct {
		sent, told string
		carries    bool
	}{
		{`"Ann"`, "Ann", true}, {`"Ann"`, "Bob", false}, {`""`, "", true}, {`""`, "Ann", false}, {`"Ann"`, "", false},
		{`"+33639980001"`, "33639980001", true}, {`"+33639980001"`, "33639980002", false},
		{`12.5`, "12.5", true}, {`12`, "12.0", true}, {`12.5`, "", false}, {`true`, "Yes", true}, {`true`, "", false}, {`false`, "No", true}, {`false`, "", true},
		{`"2001-02-03"`, "03-02-2001", true}, {`"2001-02-03"`, "2001-02-03T00:00:00Z", true}, {`"2001-02-03"`, "2001-03-02", false},
		{`["a","b"]`, "whatever", true},
	} {
		if got := c.Carries(sink.Attribute{Value: []byte(x.sent)}, x.told); got != x.carries {
			t.Errorf("%s told as %q: %v", x.sent, x.told, got)
		}
	}
}

func TestAnAddressMayComeAsALink(t *testing.T) {
	for _, s := range []string{"https://files.example.com/a.csv", `<a href="https://files.example.com/a.csv" target="_blank">a.csv</a>`} {
		if got := plainURL(s); got != "https://files.example.com/a.csv" {
			t.Error(got)
		}
	}
}
