"""Every threat that spool-security(7) names is tried by tests, and the page names all of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHARED, HOSTILE = "security/test_shared.py", "security/test_hostile.py"
INPUT, HANDED, FUZZ = "e2e/test_bad_input.py", "security/test_handed.py", "security/test_fuzz.py"
SIGNED, RIGHTS, DASH = "security/test_signatures.py", "property/test_rights.py", "unit/test_dash.py"
LOOPS = f"{HOSTILE}::test_hostile_writers_in_loops_beside_honest_ones"
TRIED = {
    "Drop without being allowed to": [
        f"{SHARED}::test_the_file_system_keeps_out_who_may_not_drop_list_read_or_replace",
        f"{SHARED}::test_what_no_rule_allows_is_refused_in_words",
    ],
    "Read, replace or remove what others have dropped": [
        f"{SHARED}::test_the_file_system_keeps_out_who_may_not_drop_list_read_or_replace",
        f"{SHARED}::test_without_access_control_lists_a_box_is_blind_all_the_same",
    ],
    "Write as somebody else": [
        f"{SHARED}::test_a_box_of_ones_own_is_closed_to_the_others_and_what_strays_in_is_refused",
        f"{HANDED}::test_a_second_name_or_another_mode_is_a_change",
        LOOPS,
    ],
    "Drop a link, FIFO, device, socket or directory": [
        f"{HOSTILE}::test_the_corpus_from_a_user_who_may_anything_harms_nobody",
        f"{INPUT}::test_nothing_but_regular_files_of_the_spool_is_opened",
        f"{INPUT}::test_a_flood_of_directories_is_left_alone",
    ],
    "Change a file while it is looked at, or afterwards": [
        f"{HANDED}::test_another_thing_under_its_name_is_not_read",
        f"{HANDED}::test_swapped_without_end_it_is_read_whole_or_not_at_all",
        f"{INPUT}::test_a_writer_who_goes_on_writing_changes_nothing_that_was_taken_in",
        LOOPS,
    ],
    "Drop what is too large, too deep, never finished or no JSON": [
        f"{INPUT}::test_a_corpus_of_bad_input_beside_honest_work",
        f"{FUZZ}::test_the_largest_and_worst_take_no_more_memory_than_their_bound",
        f"{FUZZ}::test_a_round_reads_so_many_bytes_however_many_files_there_are",
        f"{FUZZ}::test_guided_by_the_code_it_reaches_nothing_is_found",
    ],
    "Flood": [
        f"{HOSTILE}::test_a_flood_of_one_costs_the_others_a_turn_each_and_fills_no_disk",
        f"{HOSTILE}::test_who_is_over_his_rate_waits_and_the_others_do_not",
        f"{FUZZ}::test_large_files_of_one_keep_the_others_waiting_for_one_round",
        f"{RIGHTS}::test_turns_are_fair_and_lose_nothing",
    ],
    "Put escapes, line ends, right-to-left marks or HTML into names and texts": [
        "unit/test_safe.py::test_no_text_leaves_a_control_or_a_line_behind",
        f"{DASH}::test_nothing_a_writer_names_becomes_a_tag_or_reaches_a_terminal",
        "e2e/test_dash.py::test_a_page_follows_what_happens_and_runs_nothing_it_is_told",
        f"{INPUT}::test_a_corpus_of_bad_input_beside_honest_work",
    ],
    "Act on tasks of others, or answer for another parent": [
        f"{SHARED}::test_verbs_are_about_ones_own_tasks_unless_a_rule_makes_one_an_admin",
        f"{SHARED}::test_a_parent_reads_its_outbox_and_nobody_elses_and_answers_for_itself_alone",
        f"{RIGHTS}::test_verbs_are_about_ones_own_tasks_unless_one_is_an_admin",
    ],
    "Get ahead of others": [
        f"{RIGHTS}::test_a_task_is_allowed_where_one_rule_of_its_writer_allows_all_of_it",
        f"{RIGHTS}::test_a_move_gives_no_more_than_a_submission_could",
    ],
    "Run a command": [
        f"{SHARED}::test_what_no_rule_allows_is_refused_in_words",
        "e2e/test_exec.py::test_ad_hoc_commands_can_be_forbidden",
    ],
    "Change who may do what": [
        f"{SHARED}::test_spoold_itself_cannot_change_what_says_who_may_do_what",
    ],
    "Put another directory in the place of the spool": [
        f"{SHARED}::test_what_is_dangerous_is_not_served_until_it_is_mended",
        "unit/test_modes.py::test_whoever_may_replace_a_directory_on_the_way_is_named",
        "security/test_owners.py::test_the_doctor_of_root_follows_no_link_that_spoolds_user_puts_in_his_way",
    ],
    "Be any user, from a client of a file server": [
        "unit/test_doctor.py::test_a_shared_spool_on_a_network_wants_signatures_and_is_not_served_without",
    ],
    "Forge, change, send again or divert what is signed": [
        f"{SIGNED}::test_every_wrong_signature_is_refused_in_its_own_words",
        f"{SIGNED}::test_a_text_counts_once_and_a_task_that_is_sent_again_is_the_same_task",
    ],
    "Gain rights, leave processes, fill memory from a program": [
        "e2e/test_exec.py::test_the_whole_tree_of_a_handler_ends_with_it",
        "e2e/test_admission.py::test_a_handler_gets_the_limits_it_was_given_no_core_and_no_new_rights",
        "e2e/test_cgroup.py::test_what_takes_too_much_together_is_killed_and_the_record_says_why",
    ],
    "Change tasks as one who may only look": [
        f"{SHARED}::test_a_reader_sees_all_and_changes_nothing",
    ],
    "Use a browser of somebody who watches": [
        f"{DASH}::test_a_form_of_another_page_is_refused",
        f"{DASH}::test_a_foreign_name_for_this_host_is_refused",
        f"{DASH}::test_without_the_token_nobody_gets_in",
    ],
}


def test_the_page_names_each_threat_and_no_other() -> None:
    page = (ROOT / "man" / "spool-security.7").read_text()
    section = page.partition(".Sh THREATS\n")[2].partition("\n.Sh ")[0]
    assert re.findall(r"^\.It (.*)$", section, re.MULTILINE) == list(TRIED)


@pytest.mark.parametrize("threat", TRIED)
def test_the_tests_of_a_threat_are_there(threat: str) -> None:
    for test in TRIED[threat]:
        path, _, name = test.partition("::")
        assert f"\ndef {name}(" in (ROOT / "tests" / path).read_text(), test
