#!/bin/sh
# v1's calendar cleanup, under the name it has in PERM Tracker's migration scripts. Everything is done by `ledger`.
#
#   05_cleanup_v1_calendar.sh --dry-run [OPTIONS]   finds what is v1's, changes nothing, prints the plan's hash
#   05_cleanup_v1_calendar.sh HASH [OPTIONS]        executes that plan, once somebody else has approved it:
#                                                   ledger approve HASH --as NAME
#
# OPTIONS are those of `ledger cleanup calendar`: --as, --v2-export, --go-live, --user-interval, --log-dir, ...
# Needs SUPABASE_URL, SUPABASE_KEY, ENCRYPTION_KEY, GOOGLE_CLIENT_ID and GOOGLE_CLIENT_SECRET; LEDGER_BIN names the program
# where it is not in PATH.
set -eu

ledger=${LEDGER_BIN:-ledger}
case ${1-} in
    --dry-run)
        exec "$ledger" cleanup calendar "$@"
        ;;
    [0-9a-f]*)
        plan=$1
        shift
        exec "$ledger" cleanup calendar --plan "$plan" "$@"
        ;;
    *)
        echo "error: run the calendar cleanup: it is not said which plan" >&2
        echo "hint: first $0 --dry-run, then somebody else: ledger approve HASH --as NAME, then $0 HASH" >&2
        exit 2
        ;;
esac
