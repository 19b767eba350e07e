// Package official tries the stand-in with the API's own Go client. It is a module of its own, so that segsync does not
// depend on that client.
package official

import (
	"context"
	"net/http/httptest"
	"testing"
	"time"

	brevo "github.com/getbrevo/brevo-go/lib"

	"segsync/sink/sandbox"
)

const ann, bob = "ann@example.com", "bob@example.com"

func client(t *testing.T) (*sandbox.Server, *brevo.APIClient) {
	t.Helper()
	s := sandbox.New(sandbox.Options{Key: "a-key", Lists: []int64{7}, ImportTime: 50 * time.Millisecond})
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	s.SetBaseURL(h.URL)
	cfg := brevo.NewConfiguration()
	cfg.BasePath = h.URL + "/v3"
	cfg.AddDefaultHeader("api-key", "a-key")
	return s, brevo.NewAPIClient(cfg)
}

// The client creates, looks at, lists, changes, moves and removes contacts, as an account would let it.
func TestContactsOfTheOfficialClient(t *testing.T) {
	s, c := client(t)
	ctx := context.Background()
	for _, address := range []string{ann, bob} {
		made, _, err := c.ContactsApi.CreateContact(ctx, brevo.CreateContact{Email: address, Attributes: map[string]any{"FIRSTNAME": "A"}, ListIds: []int64{7}})
		if err != nil || made.Id == 0 {
			t.Fatalf("creating %s: %+v, %v", address, made, err)
		}
	}
	if _, resp, err := c.ContactsApi.CreateContact(ctx, brevo.CreateContact{Email: ann}); err == nil || resp.StatusCode != 400 {
		t.Errorf("creating one that exists: %v", err)
	}
	got, _, err := c.ContactsApi.GetContactInfo(ctx, ann, nil)
	if err != nil || got.Email != ann || len(got.ListIds) != 1 || got.Attributes["FIRSTNAME"] != "A" {
		t.Errorf("looking at %s: %+v, %v", ann, got, err)
	}
	members, _, err := c.ContactsApi.GetContactsFromList(ctx, 7, nil)
	if err != nil || members.Count != 2 || len(members.Contacts) != 2 {
		t.Errorf("listing: %+v, %v", members, err)
	}
	list, _, err := c.ContactsApi.GetList(ctx, 7, nil)
	if err != nil || list.TotalSubscribers != 2 {
		t.Errorf("the list: %+v, %v", list, err)
	}
	if _, err := c.ContactsApi.UpdateContact(ctx, ann, brevo.UpdateContact{Attributes: map[string]any{"FIRSTNAME": "B"}}); err != nil {
		t.Errorf("changing: %v", err)
	}
	moved, _, err := c.ContactsApi.RemoveContactFromList(ctx, 7, brevo.RemoveContactFromList{Emails: []string{bob}})
	if err != nil || moved.Contacts == nil {
		t.Errorf("removing: %+v, %v", moved, err)
	}
	if _, _, err := c.ContactsApi.AddContactToList(ctx, 7, brevo.AddContactToList{Emails: []string{bob}}); err != nil {
		t.Errorf("adding: %v", err)
	}
	if _, err := c.ContactsApi.DeleteContact(ctx, bob); err != nil {
		t.Errorf("deleting: %v", err)
	}
	if have := s.List(7); len(have) != 1 || have[ann]["FIRSTNAME"] != "B" {
		t.Errorf("the list holds %v", have)
	}
	attributes, _, err := c.ContactsApi.GetAttributes(ctx)
	if err != nil || len(attributes.Attributes) == 0 {
		t.Errorf("attributes: %+v, %v", attributes, err)
	}
}

func TestAnImportOfTheOfficialClient(t *testing.T) {
	s, c := client(t)
	ctx := context.Background()
	p, resp, err := c.ContactsApi.ImportContacts(ctx, brevo.RequestContactImport{FileBody: "EMAIL;FIRSTNAME\n" + ann + ";A\n" + bob + ";B\n", ListIds: []int64{7}, UpdateExistingContacts: true})
	if err != nil || resp.StatusCode != 202 || p.ProcessId == 0 {
		t.Fatalf("importing: %+v, %v", p, err)
	}
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		got, _, err := c.ProcessApi.GetProcess(ctx, p.ProcessId)
		if err != nil {
			t.Fatal(err)
		}
		if got.Status == "completed" {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the import is %s", got.Status)
		}
	}
	if have := s.List(7); len(have) != 2 || have[bob]["FIRSTNAME"] != "B" {
		t.Errorf("the list holds %v", have)
	}
}

// The client cannot leave the flags of a block out: it says false of them, and so lifts the block of somebody who has
// unsubscribed. It is a reason for segsync to speak for itself.
func TestTheOfficialClientLiftsABlock(t *testing.T) {
	s, c := client(t)
	ctx := context.Background()
	if _, _, err := c.ContactsApi.CreateContact(ctx, brevo.CreateContact{Email: ann}); err != nil {
		t.Fatal(err)
	}
	s.Unsubscribe(ann)
	if _, _, err := c.ContactsApi.CreateContact(ctx, brevo.CreateContact{Email: ann, UpdateEnabled: true}); err != nil {
		t.Logf("the client's answer: %v", err)
	}
	if got, _ := s.Contact(ann); got.EmailBlacklisted {
		t.Error("the block stands: the client has learnt to leave the flag out")
	}
	if s.Stats().Flags == 0 {
		t.Error("the stand-in has not noticed the flag")
	}
}
