"""Tables of the report in a browser: rows that are left by typing."""

from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

ROWS = """return [...document.querySelectorAll("#rows tbody tr")]
  .filter((row) => row.checkVisibility()).map((row) => row.textContent)"""


def test_typing_leaves_the_rows_in_which_each_word_stands(page):
    box = page.find_element(By.CSS_SELECTOR, "#rows .filter input")
    every = page.execute_script(ROWS)
    box.send_keys("baseline POOL")
    left = page.execute_script(ROWS)
    assert left == [text for text in every if "baseline" in text.lower() and "pool" in text.lower()]
    assert 0 < len(left) < len(every)
    assert page.find_element(By.CSS_SELECTOR, "#rows .filter output").text == f"{len(left)} of {len(every)} rows"
    box.send_keys(Keys.CONTROL, "a")
    box.send_keys(Keys.DELETE)
    assert page.execute_script(ROWS) == every


def test_what_is_filtered_sorts_too(page):
    page.find_element(By.CSS_SELECTOR, "#rows .filter input").send_keys("baseline")
    before = page.execute_script(ROWS)
    page.find_element(By.CSS_SELECTOR, '#rows th[data-name="distortion"] button').send_keys(Keys.ENTER)
    after = page.execute_script(ROWS)
    assert sorted(after) == sorted(before) and after != before
