package mapping

import (
	"github.com/nyaruka/phonenumbers"
)

// lengths are how many digits a number of each calling code may have, as the telephone library says: a number that is in
// E.164 already is checked against them, and not parsed.
var lengths = numberLengths()

type lengthSet uint32 // a bit for each length

func numberLengths() map[int]lengthSet {
	all := map[int]lengthSet{}
	for code := range phonenumbers.GetSupportedCallingCodes() {
		for n := 3; n <= 17; n++ {
			digits := uint64(1)
			for range n - 1 {
				digits = digits*10 + 1
			}
			c, number := int32(code), digits
			if phonenumbers.IsPossibleNumber(&phonenumbers.PhoneNumber{CountryCode: &c, NationalNumber: &number}) {
				all[code] |= 1 << n
			}
		}
	}
	return all
}

// e164 says whether a number is in E.164, and possible. What it does not know it leaves to the library.
func e164(s string) bool {
	if len(s) < 8 || len(s) > 16 || s[0] != '+' || s[1] < '1' {
		return false
	}
	for i := 1; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	code := 0
	for i := 1; i <= 3; i++ {
		code = code*10 + int(s[i]-'0')
		if set, ok := lengths[code]; ok {
			rest := s[i+1:]
			return rest[0] != '0' && set&(1<<len(rest)) != 0
		}
	}
	return false
}
